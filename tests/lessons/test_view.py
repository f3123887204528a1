"""Numbers and tables as text."""

from __future__ import annotations

import pytest
import torch

from cnnlab.lessons.view import Table, cells, number, render, render_prose


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1.0, -2.0]], [["1", "-2"]]),
        ([[0.5, 1.0]], [["0.5", "1.0"]]),
        ([[1 / 3, -1e-9]], [["0.333", "0.000"]]),
        ([[3.25, 6.0]], [["3.25", "6.00"]]),
    ],
)
def test_a_matrix_has_the_decimals_it_needs(matrix, expected):
    assert cells(torch.tensor(matrix)) == expected


def test_vectors_and_single_numbers_are_matrices_too():
    assert cells(torch.arange(3)) == [["0", "1", "2"]]
    assert cells(torch.tensor(7.0)) == [["7"]]


def test_numbers():
    assert [number(x) for x in (12, 120_422_400, 0.123456, 1e-9)] == ["12", "120,422,400", "0.1235", "1e-09"]


def test_matrices_stand_side_by_side():
    text = render([{"a": torch.tensor([[1, 20], [3, 4]]), "b": torch.tensor([[5]])}])
    assert text.splitlines() == ["    a          b", "     1  20     5", "     3   4"]


def test_a_table_aligns_numbers_right_and_words_left():
    table = Table(["name", "shape", "count"], [["conv", (1, 28, 28), 5], ["linear", (10,), 1234]])
    assert render([table]).splitlines() == [
        "    name     shape     count",
        "    ──────   ───────   ─────",
        "    conv     1×28×28       5",
        "    linear   10        1,234",
    ]


def test_prose_is_filled_and_formulas_are_kept():
    text = "one\ntwo\n\n    y = x   + 1\n\nQuestion: why?\nAnswer: so."
    assert render_prose(text) == "one two\n\n    y = x   + 1\n\nQuestion: why?\nAnswer: so."


def test_formulas_lose_their_marks_and_columns_stay_aligned():
    text = "    one   $a / b$   x\n    three   2   y"
    assert render_prose(text) == "    one     a / b   x\n    three   2       y"
    assert render_prose("the size $n + 1$ of it") == "the size n + 1 of it"
    assert render_prose("    >>> net.to(device)") == "    net.to(device)"
