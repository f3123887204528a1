from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cnnlab.errors import ConfigError, StorageError
from cnnlab.runs.directory import RunDirectory


def test_runs_of_the_same_second_get_directories_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunDirectory.claim(tmp_path / "name", {}, []), range(40)))
    assert len({run.path for run in runs}) == 40
    assert all(run.path.parent == tmp_path / "name" for run in runs)


@pytest.mark.parametrize("place", ["a file", "/dev/null/outputs"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place):
    (tmp_path / "a file").write_text("")
    with pytest.raises(StorageError, match="output_dir=FOLDER"):
        RunDirectory.claim(tmp_path / place / "name", {}, [])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no config.yaml"):
        RunDirectory.open(tmp_path)


def test_a_run_that_is_being_trained_is_not_trained_twice(tmp_path):
    run = RunDirectory(tmp_path)
    code = f"""
from cnnlab.runs.directory import RunDirectory
with RunDirectory({str(tmp_path)!r}).locked():
    print("locked")
"""
    with run.locked():
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process is training here" in second.stderr and not second.stdout
    third = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert third.stdout == "locked\n"


def test_metrics_come_back_exactly(tmp_path):
    run = RunDirectory(tmp_path)
    rows = [{"epoch": epoch, "step": 7 * epoch, "train_loss": 0.1 + 0.2, "valid_loss": None} for epoch in (1, 2, 3)]
    run.write_metrics(rows[:1])
    for row in rows[1:]:
        run.append_metrics(row)
    assert run.read_metrics() == rows
    run.write_metrics(rows[:2])
    assert run.read_metrics() == rows[:2]
    run.write_metrics([])
    assert run.read_metrics() == [] and not run.metrics.exists()


def test_a_torn_row_of_metrics_ends_them(tmp_path):
    """As a process leaves it that was killed while it wrote."""
    run = RunDirectory(tmp_path)
    rows = [{"epoch": epoch, "step": 7 * epoch, "train_loss": 0.125, "lr": 0.1} for epoch in (1, 2)]
    run.write_metrics(rows)
    whole = run.metrics.read_text()
    for length in range(len(whole.splitlines()[0]) + 1, len(whole)):
        run.metrics.write_text(whole[:length])
        found = run.read_metrics()  # the last number may be cut short, which the checkpoint's number of rows leaves out
        assert [row["epoch"] for row in found] == [1, 2][: len(found)]
        assert found[:-1] == rows[: len(found) - 1 if found else 0]


def test_a_failed_write_keeps_what_was_there(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_json(run.summary, {"status": "completed"})
    with pytest.raises(TypeError):
        run.write_json(run.summary, {"status": object()})
    assert run.read_json(run.summary) == {"status": "completed"}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_directory_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    run = RunDirectory.claim(tmp_path / "name", {"seed": 0}, ["seed=0"])
    assert run.read_config() == {"seed": 0} and run.read_overrides() == ["seed=0"]
    assert run.read_json(run.summary)["status"] == "running"

    def fail(self, *arguments):
        raise StorageError("full")

    monkeypatch.setattr(RunDirectory, "write_json", fail)
    with pytest.raises(StorageError, match="cannot be made .*full"):
        RunDirectory.claim(tmp_path / "name", {"seed": 0}, [])
    assert list((tmp_path / "name").iterdir()) == [run.path]


def test_a_lock_ends_with_its_process_and_not_with_one_that_it_forked(tmp_path):
    """As processes that decode pictures outlive, by a moment, the one that was killed."""
    code = f"""
import os, signal, time
from cnnlab.runs.directory import RunDirectory
with RunDirectory({str(tmp_path)!r}).locked():
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(60)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        with RunDirectory(tmp_path).locked():
            pass
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_what_a_killed_run_left_aside_is_removed_by_a_later_one(tmp_path):
    old, young = tmp_path / ".2026-01-01_00-00-00-abc.partial", tmp_path / ".2026-01-01_00-00-00-xyz.partial"
    for path in (old, young):
        path.mkdir()
        (path / "config.yaml").write_text("")
    os.utime(old, (0, 0))
    run = RunDirectory.claim(tmp_path, {}, [])
    assert sorted(tmp_path.iterdir()) == sorted([young, run.path])
