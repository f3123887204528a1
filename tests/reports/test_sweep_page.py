"""The page of a sweep: its numbers are those of its trials, whatever state they are in."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from pathlib import Path

import pytest

from cnnlab.cli import main
from cnnlab.reports.sweep_page import is_spread, write_sweep_page
from cnnlab.sweeps.directory import SweepDirectory
from tests.conftest import SMALL
from tests.reports.test_run_page import cells_of, data_of

pytest.importorskip("optuna", reason="sweeps need optuna")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    typed = ["optimizer.lr=0.0001,0.003", "average=none,ema", "sweep.seeds=2", "sweep.workers=1", "plots=off"]
    assert main(["train", "-m", *SMALL, *typed, f"output_dir={folder}"]) == 0
    (found,) = folder.glob("sweeps/*/sweep.yaml")
    return found.parent


def test_the_leaderboard_has_means_and_deviations_of_the_trials(sweep):
    assert main(["report", str(sweep)]) == 0
    page = (sweep / "report.html").read_text()
    directory = SweepDirectory.open(sweep)
    expected = {}
    for trial in directory.read_trials():
        run = directory.run(trial.number)
        best = run.read_json(run.summary)["best"]["valid_accuracy"]
        expected.setdefault(" ".join(trial.values), []).append(best)
    rows = {row[1]: row for row in cells_of(page, "leaderboard")}
    assert len(expected) == 4
    for values, scores in expected.items():
        assert rows[values][2:5] == [f"{statistics.mean(scores):.4f}", f"{statistics.stdev(scores):.4f}", "2"]
    means = [float(row[2]) for row in cells_of(page, "leaderboard")]
    assert means == sorted(means, reverse=True)
    plots = data_of(page)["plots"]
    assert [d["label"] for d in plots["parallel"]["traces"][0]["dimensions"]] == [
        "optimizer.lr",
        "average",
        "valid_accuracy",
    ]
    assert plots["axis_0"]["layout"]["xaxis"]["type"] == "log"
    curves = {json.dumps(trace["y"]) for trace in plots["trials"]["traces"]}
    assert len(plots["trials"]["traces"]) == 8
    for trial in directory.read_trials():
        rows = directory.run(trial.number).read_metrics()
        assert json.dumps([row["valid_accuracy"] for row in rows]) in curves


def test_trials_that_did_not_end_are_told(sweep, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sweep, copy)
    directory = SweepDirectory.open(copy)
    shutil.rmtree(directory.run(0).path)
    directory.run(1).summary.write_text("{")
    summary = json.loads(directory.run(2).summary.read_text()) | {"status": "pruned", "reason": "<b>slow"}
    directory.run(2).summary.write_text(json.dumps(summary))
    page = write_sweep_page(copy)
    ended = page.split('id="ended"', 1)[1].split("</table>", 1)[0]
    assert "failed" in ended and "pruned" in ended and "waiting" not in ended
    assert re.search("1 waiting", page)
    assert "&lt;b&gt;slow" in page and "<b>" not in page.split("<script", 1)[0]
    assert re.search(r"8 trials, by valid_accuracy", page)


def test_a_broken_plan_is_told(sweep, tmp_path, capsys):
    shutil.copytree(sweep, tmp_path / "copy")
    (tmp_path / "copy" / "sweep.yaml").write_text("x")
    assert main(["report", str(tmp_path / "copy")]) == 2
    assert "is not what a sweep wrote" in capsys.readouterr().err


def test_logarithms():
    assert is_spread([0.001, 0.1]) and not is_spread([0.0, 1.0]) and not is_spread([1.0, 3.0]) and not is_spread([])
