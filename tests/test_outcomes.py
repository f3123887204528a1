"""Every command of the README and of the lessons that trains on what comes with cnnlab teaches something true.

Each is run as it stands and has to end far above chance. Those that need data or weights from elsewhere are not here;
the recipes have tests of their own. A few stand in for the others where slow tests are left out.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnlab.lessons.course import COURSE
from tests.conftest import only_run
from tests.test_readme import README, commands_in

Run = Callable[..., subprocess.CompletedProcess[str]]
ELSEWHERE = ("root=", "model.weights=", "cifar10", "mnist", "experiment=", "--config-dir", "logger=")
NOT_RUN = ("max_time", "--cfg", "--help", "folds=")  # for half an hour, not at all, or below
QUICK = ("model=mlp",)  # the first that has it
LOWER = {"optimizer=sgd optimizer.lr=0.01": 0.6}  # whose lesson shows what momentum adds to it


def trains(command: str) -> bool:
    """On digits, and alone."""
    chosen = command.replace("model=mnist_cnn", "")
    return (
        command.startswith("cnnlab train")
        and " -m " not in command
        and not any(word in chosen for word in ELSEWHERE + NOT_RUN)
    )


PRINTED = [*commands_in(README), *(command for lesson in COURSE for command in commands_in(COURSE[lesson].ending))]
COMMANDS = list(dict.fromkeys(command for command in PRINTED if trains(command)))
SHORT = [next(command for command in COMMANDS if word in command) for word in QUICK]


def run_command(cnnlab: Run, command: str, folder: Path) -> tuple[Path, str]:
    """What it printed, and the run directory."""
    done = cnnlab(*shlex.split(command)[1:], "plots=off", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "no better than" not in done.stdout + done.stderr
    return only_run(folder / "outputs"), done.stdout


def read_accuracy(run: Path) -> float:
    """Over the test images, or where there are none the validation images."""
    summary = json.loads((run / "summary.json").read_text())
    return (summary["test"] or summary["best"])["accuracy" if summary["test"] else "valid_accuracy"]


@pytest.mark.parametrize("command", [pytest.param(c, marks=() if c in SHORT else pytest.mark.slow) for c in COMMANDS])
def test_what_is_printed_learns(command, cnnlab, tmp_path):
    run, _ = run_command(cnnlab, command, tmp_path)
    assert read_accuracy(run) >= next((bound for words, bound in LOWER.items() if command.endswith(words)), 0.9)


@pytest.mark.slow
def test_a_frozen_backbone_that_was_trained(cnnlab, tmp_path):
    """`model.weights=RUN`, as the README has it; here of smaller digits."""
    small = "dataset.image_size=16 epochs=5"
    run, _ = run_command(cnnlab, f"cnnlab train model=resnet20 {small}", tmp_path)
    (command,) = [c for c in commands_in(README) if "feature_views" in c]
    (tmp_path / "frozen").mkdir()
    frozen, _ = run_command(cnnlab, f"{command.replace('RUN', str(run))} {small}", tmp_path / "frozen")
    assert read_accuracy(frozen) >= 0.9


@pytest.mark.slow
def test_the_sweeps(cnnlab, tmp_path):
    """Every trial of the grid learns, and the best of the search."""
    grid, search = (c for c in commands_in(README) if "train -m" in c)
    done = cnnlab(*shlex.split(grid)[1:], "sweep.seeds=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = [read_accuracy(path.parent) for path in (tmp_path / "outputs").rglob("summary.json")]
    assert len(scores) == 4 and min(scores) >= 0.9
    (tmp_path / "search").mkdir()
    done = cnnlab(*shlex.split(search)[1:], "sweep.trials=8", cwd=tmp_path / "search")
    assert done.returncode == 0, done.stderr
    found = [read_accuracy(path.parent) for path in (tmp_path / "search").rglob("summary.json")]
    assert max(found) >= 0.9


@pytest.mark.slow
def test_the_suggested_rate(cnnlab, tmp_path):
    """`cnnlab find-lr optimizer=sgd`, and a run with what it says."""
    said = cnnlab("find-lr", "optimizer=sgd").stdout
    rate = said.partition("suggested: ")[2].split()[0]
    run, _ = run_command(cnnlab, f"cnnlab train optimizer=sgd {rate}", tmp_path)
    assert read_accuracy(run) >= 0.9


@pytest.mark.slow
def test_a_cross_validation(cnnlab, tmp_path):
    done = cnnlab("train", "folds=5", "plots=off")
    assert done.returncode == 0, done.stderr
    scores = [read_accuracy(path.parent) for path in (tmp_path / "outputs").rglob("fold*/summary.json")]
    assert len(scores) == 5 and min(scores) >= 0.9
