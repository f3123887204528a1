from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cnnlab.errors import ConfigError, StorageError
from cnnlab.runs.directory import METRICS, RunDirectory


def test_runs_of_the_same_second_get_directories_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunDirectory.claim(str(tmp_path), "name"), range(40)))
    assert len({run.path for run in runs}) == 40
    assert all(run.path.parent == tmp_path / "name" for run in runs)


@pytest.mark.parametrize("place", ["a file", "/dev/null/outputs"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place):
    (tmp_path / "a file").write_text("")
    with pytest.raises(StorageError, match="output_dir=FOLDER"):
        RunDirectory.claim(str(tmp_path / place), "name")


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
    row = dict.fromkeys(METRICS, 0.1 + 0.2) | {"epoch": 1, "valid_loss": None}
    run.write_metrics([row, row | {"epoch": 2}])
    first, second = run.read_metrics()
    assert float(first["train_loss"]) == 0.1 + 0.2 and first["valid_loss"] == ""
    assert (first["epoch"], second["epoch"]) == ("1", "2")


def test_a_failed_write_keeps_what_was_there(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_json(run.summary, {"status": "completed"})
    with pytest.raises(TypeError):
        run.write_json(run.summary, {"status": object()})
    assert run.read_json(run.summary) == {"status": "completed"}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
