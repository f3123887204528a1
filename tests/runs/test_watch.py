"""`cnnlab watch`: curves as text, of runs in any state, until nothing runs."""

from __future__ import annotations

import json
import sys
import threading
import time

import pytest

from cnnlab.cli import main
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from cnnlab.runs.watch import draw_curves, draw_run, watch
from tests.conftest import small_config


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return start(small_config(tmp_path, "epochs=3"), [])


def test_curves_are_drawn_where_their_values_are():
    lines = draw_curves({"train": [(1, 0.0), (2, 0.5), (3, 1.0)], "valid": [(3, 0.0)]}, 34)
    grid = [line.split("│")[1] if "│" in line else "" for line in lines]
    assert grid[0].endswith("·") and len(grid[0]) == 30 and lines[0].startswith("1 │")
    assert grid[11][0] == "·" and grid[11].endswith("o") and len(grid[11]) == 30
    assert grid[6][14] == "·"
    assert lines[-1].split() == ["1", "3"]


def test_a_completed_run_is_shown_once(run, capsys):
    capsys.readouterr()
    assert main(["watch", str(run)]) == 0
    out = capsys.readouterr().out
    last = run.read_metrics()[-1]
    assert f"completed, epoch 3, train loss {last['train_loss']:.4f}" in out
    assert out.count("┴") == 0 and out.count("└") == 2 and "\x1b" not in out
    assert "loss (· train, o valid)" in out and "accuracy (· train, o valid)" in out


def test_a_folder_shows_its_newest_runs(run, tmp_path, capsys):
    second = start(small_config(tmp_path, "name=second", "epochs=1"), [])
    capsys.readouterr()
    assert main(["watch", str(tmp_path), "--once"]) == 0
    out = capsys.readouterr().out
    first_line, second_line, *_ = out.splitlines()
    assert first_line.startswith("second/") and run.path.name in second_line
    assert f"\n{second}: completed" in out


def test_it_follows_a_run_until_that_ends(run, capsys):
    summary = json.loads(run.summary.read_text())
    rows = run.metrics.read_text().splitlines(keepends=True)
    run.write_json(run.summary, {**summary, "status": "running"})
    run.metrics.write_text("".join(rows[:2]))
    capsys.readouterr()
    with run.locked():  # as while it trains
        watching = threading.Thread(target=watch, args=(str(run), 0.02, False))
        watching.start()
        time.sleep(0.3)
        run.metrics.write_text("".join(rows))
        time.sleep(0.3)
        assert watching.is_alive()
        run.write_json(run.summary, summary)
    watching.join(10)
    assert not watching.is_alive()
    out = capsys.readouterr().out
    assert out.index("running, epoch 1") < out.index("running, epoch 3") < out.index("completed, epoch 3")


def test_damaged_and_empty_runs_are_shown_as_far_as_they_go(run, tmp_path, capsys):
    run.summary.write_text("{")
    run.metrics.write_text("epoch,train_loss\n1,nan\n2,x")
    assert "unknown, epoch 1" in draw_run(run, 80) and "nothing yet" in draw_run(run, 80)
    run.metrics.unlink()
    assert "no epoch yet" in draw_run(run, 80)
    (tmp_path / "empty").mkdir()
    assert main(["watch", str(tmp_path / "empty")]) == 2
    assert "no run here" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_a_run_that_was_killed_is_not_running(tmp_path):
    run = start(small_config(tmp_path, "epochs=1"), [])
    run.write_json(run.summary, {**run.read_json(run.summary), "status": "running"})
    assert run.read_status() == "killed"
    with run.locked():
        assert run.read_status() == "running"
    watch(str(run.path), 60.0, once=False)  # it waits for nobody
