"""The index of a folder: a row a run, whatever state it is in."""

from __future__ import annotations

import html
import json
import re

import pytest

from cnnlab.cli import main
from cnnlab.reports.evidence import read_evidence
from cnnlab.reports.folder_page import draw_spark, find_runs, tell_run
from cnnlab.runs.start import start
from tests.conftest import small_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    for name, seed in (("one", 0), ("two", 1)):
        start(small_config(outputs, f"name={name}", f"seed={seed}"), [])
    start(small_config(outputs, "name=folds", "folds=2", "epochs=1"), [])
    start(small_config(outputs, "name=broken", "epochs=1"), [])
    (outputs / "broken").rename(outputs / "<b>broken")
    (broken,) = find_runs(outputs / "<b>broken")
    broken.summary.write_text("{")
    broken.metrics.write_text("epoch\nx\n")
    return outputs


def test_all_runs_are_listed_with_their_numbers(folder):
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    rows = re.findall(r"<tr>(<td>.*?)</tr>", page, re.DOTALL)
    assert len(rows) == 6  # the cross-validation, its two folds, and three runs
    runs = list(find_runs(folder))
    for run, row in zip(runs, rows, strict=True):
        assert html.escape(str(run.path.relative_to(folder)), quote=False) in row
        if "broken" in str(run):
            continue
        summary = json.loads(run.summary.read_text())
        if summary.get("test"):
            assert f'data-value="{summary["test"]["accuracy"]}">{summary["test"]["accuracy"]:.4f}<' in row
            assert f">{summary['best']['valid_accuracy']:.4f}<" in row
    assert "<b>" not in page
    assert len(page) < 100_000


def test_a_link_leads_to_the_report_once_there_is_one(folder):
    (run,) = [run for run in find_runs(folder) if "one" in str(run)]
    assert tell_run(folder, read_evidence(run), ["accuracy"]).link == f"one/{run.path.name}"
    run.report.write_text("page")
    assert tell_run(folder, read_evidence(run), ["accuracy"]).link == f"one/{run.path.name}/report.html"


def test_a_cross_validation_is_the_index_of_its_folds(folder):
    (whole,) = [run for run in find_runs(folder) if run.fold(0).path.is_dir()]
    assert main(["report", str(whole)]) == 0
    page = whole.report.read_text()
    assert "fold_0" in page and "fold_1" in page
    mean = json.loads(whole.summary.read_text())["mean"]["accuracy"]
    assert f"{mean:.4f}" in page


def test_sparklines():
    assert draw_spark([1.0]) == ""
    assert draw_spark([0.0, 1.0, 0.5]) == "0.0,22.0 50.0,2.0 100.0,12.0"
    assert draw_spark([1.0, 1.0]) == "0.0,22.0 100.0,22.0"
