"""Tags and notes stay with a run; tables and pages show them, and runs are found by them."""

from __future__ import annotations

import json

import pytest
import yaml

from cnnlab.cli import main
from cnnlab.runs.start import start
from tests.conftest import small_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    given = (["tags=[baseline,jan]", "note='the first <one>'"], ["tags=[jan]", "optimizer.lr=0.01"], ["seed=1"])
    return folder, [start(small_config(folder, "epochs=1", *keys), []) for keys in given]


def test_they_are_kept(runs):
    kept = yaml.safe_load(runs[1][0].config.read_text())
    assert (kept["tags"], kept["note"]) == (["baseline", "jan"], "the first <one>")


def compare(capsys, *arguments) -> list[dict]:
    assert main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compare_shows_them_and_finds_runs_by_them(runs, capsys):
    paths = [str(run) for run in runs[1]]
    table = compare(capsys, *paths)
    assert sorted(row["tags"] for row in table) == ["baseline, jan", "jan"]  # the third differs in the seed alone
    assert {row["note"] for row in table} == {"", "the first <one>"}
    assert [row["runs"] for row in compare(capsys, *paths, "--tag", "baseline")] == [1]
    assert sum(row["runs"] for row in compare(capsys, *paths, "--tag", "jan")) == 2
    assert main(["compare", *paths, "--tag", "may"]) == 2
    assert "--tag: no run here is tagged may" in capsys.readouterr().err
    assert not {"tags", "note"} & compare(capsys, paths[2])[0].keys()


def test_report_shows_them_and_finds_runs_by_them(runs):
    folder, (first, *_) = runs
    assert main(["report", str(folder), "--tag", "baseline"]) == 0
    page = (folder / "report.html").read_text()
    assert "1 runs" in page and "<td>baseline, jan</td>" in page and "<td>the first &lt;one&gt;</td>" in page
    assert main(["report", str(folder)]) == 0
    assert "3 runs" in (folder / "report.html").read_text()
    assert main(["report", str(first)]) == 0
    assert "baseline · jan · the first &lt;one&gt;" in first.report.read_text()
