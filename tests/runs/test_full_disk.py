"""A disk that fills, and signals at bad moments: how a run stands is told, what was earned stays, and it goes on.

The disk is full for files that are written aside, and for what a table grows by; not for a file that is written over
as it lies. Two tests have the system refuse, by a limit on the size of files.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlab.cli import main
from cnnlab.composition import CONF
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.errors import StorageError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from tests.conftest import SMALL, only_run, small_config
from tests.runs.test_resume import assert_same_end

SAVING = ("epochs=3", "engine.checkpoint_every=8 steps")
WRITTEN_ASIDE = re.compile(r"\.(.*)\.partial")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("whole"), *SAVING), [])


def fill_disk(monkeypatch, name: str, after: int) -> None:
    """No room for files of this name, or for any, once `after` of them were written."""
    fsync, written = os.fsync, []

    def fsync_or_fail(descriptor: int) -> None:
        file = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        aside = WRITTEN_ASIDE.fullmatch(file)
        if (aside or file == "metrics.csv") and re.fullmatch(name, aside[1] if aside else file):
            if len(written) >= after:
                raise OSError(28, "No space left on device")
            written.append(file)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_or_fail)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not tell what a descriptor is of")
@pytest.mark.parametrize(
    ("name", "after"),
    [
        *(("last.pt", after) for after in (0, 1, 4)),
        *(("best.pt", after) for after in (0, 1)),
        *(("metrics.csv", after) for after in (0, 1, 2)),
        ("summary.json", 1),  # after the one with which the directory is made
        ("config.yaml", 1),
        ("dataset.json", 0),
        ("environment.json", 0),
        ("classes.csv", 0),
        *((".*", after) for after in (3, 5, 8, 9, 10, 11, 14, 17)),
    ],
)
def test_a_run_on_a_full_disk_has_failed_and_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, name, after):
    with monkeypatch.context() as full:
        fill_disk(full, name, after)
        with pytest.raises(StorageError, match="No space left on device"):
            start(small_config(tmp_path, *SAVING), [])
    run = RunDirectory(only_run(tmp_path))
    summary = run.read_json(run.summary)
    assert summary["status"] == "failed" and "No space left on device" in summary["reason"]
    assert not list(run.path.rglob(".*.partial"))
    rows, steps = run.read_metrics(), [load_checkpoint(path)["state"]["step"] for path in (run.last,) if path.exists()]
    assert all(row["train_loss"] == same["train_loss"] for row, same in zip(rows, whole.read_metrics(), strict=False))
    resume(str(run.path), [])
    assert_same_end(run, whole)
    log = run.log.read_text()
    assert all(f"resumed at step {step} of 63" in log for step in steps)


def test_an_end_that_is_only_told_over_the_old_summary(whole, tmp_path, monkeypatch):
    fill_disk(monkeypatch, "summary.json", 2)
    assert_same_end(start(small_config(tmp_path, *SAVING), []), whole)


def test_no_directory_is_left_where_there_is_no_room_for_one(tmp_path, monkeypatch):
    fill_disk(monkeypatch, ".*", 2)
    with pytest.raises(StorageError, match="the run directory cannot be made.*No space left.*output_dir=FOLDER"):
        start(small_config(tmp_path), [])
    assert not list(tmp_path.glob("*/*"))


def train_with_limit(folder: Path, num_bytes: int, *overrides: str) -> subprocess.CompletedProcess[str]:
    """`cnnlab train` in a process that can make no file larger than this."""
    return subprocess.run(
        [sys.executable, "-m", "cnnlab.cli", "train", *SMALL, *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CONF.parent)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes)),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_checkpoint_that_the_system_cuts_short(whole, tmp_path):
    done = train_with_limit(tmp_path, 60_000, *SAVING, "engine.threads=1")
    run = RunDirectory(only_run(tmp_path / "outputs"))
    assert done.returncode == 6 and "the checkpoint could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert run.read_json(run.summary)["status"] == "failed" and not list(run.path.rglob("*.pt"))
    assert main(["resume", str(run)]) == 0
    assert_same_end(run, whole)


def test_a_log_without_room_is_told_and_the_run_goes_on(tmp_path):
    quick = ["model=linear", "dataset.image_size=8", "optimizer=sgd", "batch_size=4", "engine.log_every=1 steps"]
    done = train_with_limit(tmp_path, 30_000, *quick)
    assert done.returncode == 0 and done.stderr.count("train.log: cannot be written") == 1, done.stderr
    assert "Traceback" not in done.stderr
    run = RunDirectory(only_run(tmp_path / "outputs"))
    assert run.read_json(run.summary)["status"] == "completed" and len(run.read_metrics()) == 2


# --- Signals at bad moments -----------------------------------------------------------------------------


def run_python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since it may kill itself."""
    return subprocess.run(
        [sys.executable, "-c", "import os, signal, sys\n" + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CONF.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )


STOPPED_IN_ITS_LAST_VALIDATION = """
from cnnlab.cli import main
from cnnlab.engine import loop
evaluate, calls = loop.evaluate, []
def evaluate_and_stop(*arguments):
    calls.append(1)
    if len(calls) == 2:  # of two epochs
        os.kill(os.getpid(), {signum})
    return evaluate(*arguments)
loop.evaluate = evaluate_and_stop
sys.exit(main({arguments}))
"""


FOLDS, SWEEP = ["folds=2"], ["-m", "hydra/sweeper=basic", "seed=0,1"]


@pytest.mark.parametrize(
    ("several", "signum"),
    [
        (FOLDS, signal.SIGINT),
        (SWEEP, signal.SIGTERM),
        pytest.param(FOLDS, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(SWEEP, signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_stopped_in_its_last_validation_nothing_else_begins(tmp_path, signum, several):
    arguments = ["train", *several, *SMALL, "model=linear"]
    done = run_python(tmp_path, STOPPED_IN_ITS_LAST_VALIDATION.format(signum=int(signum), arguments=arguments))
    assert done.returncode == 128 + signum, done.stderr
    assert f"stopped by {signum.name}" in done.stderr and "Traceback" not in done.stderr
    (summary,) = [path for path in tmp_path.rglob("summary.json") if (path.parent / "checkpoints").exists()]
    run = RunDirectory(summary.parent)
    assert run.read_json(run.summary)["status"] == "interrupted"
    whole = run if several[0] == "-m" else RunDirectory(run.path.parent)
    assert whole.read_json(whole.summary)["status"] == "interrupted"
    assert main(["resume", str(whole)]) == 0
    assert run.read_json(run.summary)["status"] == "completed" and len(run.read_metrics()) == 2


KILLED_BEFORE_ITS_DRAWING = """
from cnnlab.cli import main
from cnnlab.runs import training
training.draw_pictures = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
main({arguments})
"""


@pytest.mark.usefixtures("pictures")
def test_a_fold_killed_between_its_end_and_its_drawing_is_drawn(tmp_path):
    arguments = ["train", *SMALL, "model=linear", "folds=2"]
    done = run_python(tmp_path, KILLED_BEFORE_ITS_DRAWING.format(arguments=arguments))
    assert done.returncode == -signal.SIGKILL
    whole = RunDirectory(only_run(tmp_path / "outputs"))
    first = whole.fold(0)
    assert len(first.read_metrics()) == 2 and first.classes.is_file() and not first.curves.exists()
    assert main(["resume", str(whole)]) == 0
    assert all(whole.fold(number).curves.is_file() and whole.fold(number).confusion.is_file() for number in range(2))
    assert whole.out_of_fold.is_file()
