"""Two processes under torchrun do what one does: the same curves, the same files, and no end of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cnnlab.composition import CONF
from cnnlab.config import parse
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from tests.conftest import SMALL, compose_tree, only_run, wait_for_file
from tests.runs.test_resume import assert_same, metrics
from tests.together import LONGER, RUNS, STOPPED, configure

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1"}


def torchrun(num_processes: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, str(num_processes), "-m", *arguments]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=180)


def run_in(folder: Path) -> RunDirectory:
    return RunDirectory(only_run(folder))


def assert_same_curves(one: RunDirectory, two: RunDirectory) -> None:
    """Rows, weights and what was said of them at the end agree to rounding; what is counted agrees exactly."""
    for ours, theirs in zip(metrics(one), metrics(two), strict=True):
        assert ours.keys() == theirs.keys()
        for column, value in ours.items():
            if value is None:
                assert theirs[column] is None, column
            else:
                counted = column.endswith("accuracy")  # one image more or less would be a thousandth
                assert theirs[column] == pytest.approx(value, rel=1e-6 if counted else 1e-4), column
    ends = [run.read_json(run.summary) for run in (one, two)]
    assert ends[1]["status"] == "completed" and ends[1]["images"] == ends[0]["images"]
    if ends[0]["best"] and ends[0]["best"]["step"] == ends[1]["best"]["step"]:  # else one has stopped at a better step
        assert ends[1]["test"] == pytest.approx(ends[0]["test"], rel=1e-4)
    left, right = (load_checkpoint(run.last)["model"] for run in (one, two))
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """What one process made of `tests.together`."""
    folder = tmp_path_factory.mktemp("one")
    command = [sys.executable, "-m", "tests.together", str(folder)]
    subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, timeout=180)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """What two processes made of it."""
    folder = tmp_path_factory.mktemp("two")
    start(configure(folder / "begun", STOPPED), [])
    done = torchrun(2, "tests.together", str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_do_what_one_does(one, two, name):
    assert_same_curves(run_in(one / name), run_in(two / name))


def test_a_run_goes_on_with_another_number_of_processes(one, two, tmp_path):
    whole = run_in(one / "plain")
    assert_same_curves(whole, run_in(two / "begun"))  # from one to two
    config = configure(tmp_path, STOPPED)
    begun = start(config, [])
    begun.last.write_bytes(run_in(two / "stopped").previous.read_bytes())  # of step 20 or before, by two
    assert 0 < load_checkpoint(begun.last)["state"]["step"] <= 21
    resume(str(begun.path), LONGER)
    assert_same_curves(whole, begun)


def test_a_run_of_two_that_was_stopped_ends_in_the_same_bits(two):
    stopped, whole = run_in(two / "stopped"), run_in(two / "plain")
    assert metrics(stopped) == metrics(whole)
    left, right = load_checkpoint(stopped.last), load_checkpoint(whole.last)
    assert_same(left["model"], right["model"])
    assert_same(left["optimizer"], right["optimizer"])


def test_the_main_process_alone_writes_and_speaks(two):
    run = run_in(two / "plain")
    assert {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()} == {
        "config.yaml", "overrides.yaml", "environment.json", "train.log", "metrics.csv", "summary.json",
        "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt",
        "classes.csv", "dataset.json",
    }  # fmt: skip
    said = (two / "out.txt").read_text().splitlines()
    assert [line for line in said if line.startswith("run directory:")].count(f"run directory: {run}") == 1
    assert "26 steps on 2 × cpu" in said[0] and said[1].startswith("epoch 1/2") and said[2].startswith("epoch 2/2")
    assert run.log.read_text().count("step 13 loss") == 1
    assert run.read_json(run.environment)["processes"] == run.read_json(run.summary)["processes"] == 2


@pytest.mark.slow
def test_a_mistake_is_told_once(tmp_path):
    done = torchrun(2, "cnnlab.train", "optimzer.lr=1", cwd=tmp_path)
    messages = [line for line in done.stderr.splitlines() if line.startswith("cnnlab:")]
    assert messages == ["cnnlab: optimzer: no such key; did you mean optimizer?"]
    assert "exitcode  : 2" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("signum", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_no_process_goes_on_alone(tmp_path, signum):
    """One is killed, or all are asked to stop: all end, say why, and the run goes on from its checkpoint."""
    command = [*TORCHRUN, "2", "-m", "cnnlab.cli", "train", *SMALL, "epochs=3000"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for_file(process, tmp_path, "outputs/*/*/checkpoints/last.pt")
    os.kill(process.pid if signum == signal.SIGTERM else find_process(process.pid, rank=1), signum)
    _, err = process.communicate(timeout=60)
    run = run_in(tmp_path / "outputs")
    summary = run.read_json(run.summary)
    (said,) = [line for line in err.splitlines() if line.startswith("cnnlab:")]
    assert said.endswith(summary["reason"])
    if signum == signal.SIGTERM:
        assert (summary["status"], summary["reason"]) == ("interrupted", "stopped by SIGTERM")
        assert load_checkpoint(run.last)["state"]["step"] == summary["totals"]["steps"]
    else:
        assert summary["status"] == "failed" and "process 0 of 2 has lost another one" in said
        assert "exitcode  : 7" in err
    steps = load_checkpoint(run.last)["state"]["step"] + 1
    resume(str(run.path), [f"steps={steps}"])
    assert run.read_json(run.summary)["status"] == "completed"


@pytest.mark.slow
def test_what_only_one_process_meets_ends_all_and_is_told_by_it(tmp_path):
    """Here a module of the user's that one of two processes cannot import."""
    (tmp_path / "lonely.py").write_text("import os\nif os.environ['RANK'] == '1':\n    import no_such_module\n")
    begin = time.monotonic()
    done = torchrun(2, "cnnlab.train", *SMALL, "imports=[lonely]", cwd=tmp_path)
    assert done.returncode != 0 and time.monotonic() - begin < 60
    assert "cnnlab: process 1 of 2: imports: lonely cannot be imported" in done.stderr


@pytest.mark.slow
def test_folds_in_two_processes_are_those_of_one(tmp_path):
    """The main process and the others take the same way through a cross-validation."""
    overrides = [*SMALL, "epochs=1", "folds=3", "batch_size=100"]
    done = torchrun(2, "cnnlab.train", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fold ") == 3 and done.stdout.count("out of fold, 3 folds") == 1
    two = run_in_folds(tmp_path / "outputs")
    one = start(parse(compose_tree(*overrides, f"output_dir={tmp_path / 'one'}")), [])
    for number in range(3):
        assert_same_curves(one.fold(number), two.fold(number))
    for name, mean in one.read_json(one.summary)["mean"].items():
        assert two.read_json(two.summary)["mean"][name] == pytest.approx(mean, rel=1e-3)


def run_in_folds(folder: Path) -> RunDirectory:
    (config,) = folder.glob("*/*/config.yaml")
    return RunDirectory(config.parent)


def find_process(parent: int, rank: int) -> int:
    """The process of that rank that torchrun, process `parent`, has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            started_by = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0") if started_by == parent else []
        except OSError:  # another process, that has ended meanwhile
            continue
        if f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError(f"process {parent} has none of rank {rank}")
