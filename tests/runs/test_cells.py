"""Cells that a spreadsheet leaves alone, from which names come back; columns of which no two are alike."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.data import Facts, Unlabelled
from cnnlab.runs.cells import COLUMNS, FORMULA, NUMBER, guard, title_scores
from cnnlab.runs.classes import list_scores, score_classes, write_table
from cnnlab.runs.predict import Series, format_table, print_table
from cnnlab.tasks import REGRESSION


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("cat", "cat"),
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1+1", "'＝1+1"),
        ("-1", "-1"),
        ("+0.5", "+0.5"),
        ("-1e-3", "-1e-3"),
        ("'s-Hertogenbosch", "'s-Hertogenbosch"),
        ("'=1+1", "''=1+1"),
        ("\udcff.png", r"\udcff.png"),
    ],
)
def test_what_would_be_computed_is_not(name, cell):
    assert guard(name) == cell


@given(st.text(alphabet="=+-@'\t\r\n1a.", max_size=5))
def test_names_come_back(name):
    cell = guard(name)
    assert (cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell) == name
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r") or NUMBER.fullmatch(cell)


@pytest.mark.parametrize(
    "names", [("id", "cat"), ("label", "score_label"), ("prediction", "path", "fold"), ("a", "=1")]
)
def test_no_two_columns_are_alike(names):
    titles = title_scores(names)
    assert len({*titles, *COLUMNS}) == len(names) + len(COLUMNS)
    assert titles == ["a", "'=1"] if names[0] == "a" else all(title.startswith("score_") for title in titles)


def read_back(rows) -> list[dict[str, str]]:
    header, *cells = rows
    assert len(set(header)) == len(header)
    return [dict(zip(header, row, strict=True)) for row in cells]


def test_a_table_of_predictions_of_classes_of_any_name(tmp_path, capsys):
    facts = Facts(("label", "=2+2", "\x1b[31m"), channels=1, image_size=8)
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [0.0, 0.25, 0.75]])
    images = Unlabelled(("=A1", "\x1b[2J", "3"), lambda index, shorter: scores)
    series = Series(images, "somewhere", torch.tensor([1, 0, 2]), (tmp_path / "=a.png",) * 3)
    rows = list(format_table(facts, series, scores))
    table = read_back(rows)
    assert [row["id"] for row in table] == ["'=A1", "\x1b[2J", "3"]
    assert [row["label"] for row in table] == [row["prediction"] for row in table] == ["'=2+2", "label", "\x1b[31m"]
    assert [float(row["score_label"]) for row in table] == [0.1, 0.5, 0.0]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    print_table(facts, series, scores)
    assert "\x1b" not in capsys.readouterr().out


def test_a_table_of_numbers_whose_targets_have_any_name():
    facts = Facts(("id", "label_id"), channels=1, image_size=1, task=REGRESSION)
    images = Unlabelled(("0",), lambda index, shorter: np.zeros(1))
    (row,) = read_back(format_table(facts, Series(images, "", torch.tensor([[1.0, 2.0]])), np.array([[3.0, 4.0]])))
    assert row == {"id": "0", "label_id": "1", "label_label_id": "2", "score_id": "3", "score_label_id": "4"}


def test_scores_of_classes_of_any_name():
    scores = score_classes(torch.tensor([[3, 2], [0, 1], [1, 0]]), ("=HYPERLINK()", "\x1b]0;x\x07"))
    assert [row[0] for row in list_scores(scores)] == ["class", "'=HYPERLINK()", "\x1b]0;x\x07"]
    assert "\x1b" not in write_table(scores) and r"\x1b]0;x\x07" in write_table(scores)
