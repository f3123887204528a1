"""Sweeps as a user types them: every trial once, its result that of the run alone, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnnlab.composition import CONF
from cnnlab.runs.directory import RunDirectory
from cnnlab.sweeps.directory import SweepDirectory
from cnnlab.sweeps.plots import Scored, draw_parallel
from cnnlab.sweeps.proposals import Study
from cnnlab.sweeps.settings import parse_settings
from cnnlab.sweeps.space import Axis
from tests.conftest import only_run, wait_for_file
from tests.runs.test_resume import assert_same_end

FAST = ["dataset.image_size=12", "epochs=2", "engine.device=cpu", "model=linear"]
SWEEPS = "outputs/sweeps/[!.]*/sweep.yaml"  # what is made aside is hidden
AN_EPOCH = "outputs/sweeps/*/trial_*/metrics.csv"  # what the first trial that ends an epoch writes


def only_sweep(folder: Path) -> SweepDirectory:
    (found,) = folder.glob(SWEEPS)
    return SweepDirectory(found.parent)


def read_table(sweep: SweepDirectory) -> list[dict[str, str]]:
    return list(csv.DictReader(sweep.table.open()))


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(CONF.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "cnnlab.cli", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a group of its own, as a shell's job
    )


def assert_same_results(first: SweepDirectory, second: SweepDirectory) -> None:
    """Every trial of two sweeps, bit for bit."""
    assert [t.config for t in first.read_trials()] == [t.config for t in second.read_trials()]
    for trial in first.read_trials():
        assert_same_end(first.run(trial.number), second.run(trial.number))


@pytest.mark.slow
def test_seeds_answers_and_commands(cnnlab, tmp_path):
    done = cnnlab("train", "-m", *FAST, "optimizer.lr=0.01,0.3", "sweep.seeds=2")
    assert done.returncode == 0, done.stderr
    sweep = only_sweep(tmp_path)
    rows = read_table(sweep)
    assert [(row["optimizer.lr"], row["seed"], row["status"]) for row in rows] == [
        ("0.01", "0", "completed"), ("0.01", "1", "completed"), ("0.3", "0", "completed"), ("0.3", "1", "completed"),
    ]  # fmt: skip
    scores = [float(row["valid_accuracy"]) for row in rows]
    summary = sweep.run(1).read_json(sweep.run(1).summary)
    assert scores[1] == summary["best"]["valid_accuracy"]
    mean, deviation = sum(scores[:2]) / 2, abs(scores[0] - scores[1]) / 2**0.5
    assert f"{mean:.4f} ± {deviation:.4f} over 2 seeds" in done.stdout
    # A trial is an ordinary run: what every command takes, and what the best configuration gives alone.
    assert cnnlab("evaluate", str(sweep.run(0))).returncode == 0
    compared = json.loads(cnnlab("compare", str(sweep), "--json").stdout)
    assert {row["optimizer.lr"]: round(row["valid_accuracy"], 12) for row in compared} == {
        0.01: round(mean, 12), 0.3: round(sum(scores[2:]) / 2, 12),
    }  # fmt: skip
    assert "4 completed" in cnnlab("sweep", "status", str(sweep)).stdout
    assert "McNemar" in cnnlab("compare", str(sweep.run(0)), str(sweep.run(2)), "--test").stdout
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "winner.yaml").write_text(sweep.best.read_text())
    again = cnnlab("train", "--config-dir", "mine", "experiment=winner", "output_dir=alone", "engine.threads=1")
    assert again.returncode == 0, again.stderr
    best = max(range(0, 4, 2), key=lambda n: scores[n] + scores[n + 1])
    assert_same_end(RunDirectory(only_run(tmp_path / "alone")), sweep.run(best))
    # Nothing is left to do, and nothing is done.
    before = sweep.run(0).summary.stat().st_mtime_ns
    assert cnnlab("sweep", "resume", str(sweep)).returncode == 0
    assert sweep.run(0).summary.stat().st_mtime_ns == before


def find_descendants(pid: int) -> list[int]:
    """The processes below one, by what Linux tells of each."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # has ended meanwhile
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def kill_at_random(folder: Path, arguments: list[str], num_kills: int, seed: int) -> SweepDirectory:
    """A sweep that is killed, or one of whose trials is, again and again, until it ends."""
    draw = random.Random(seed)
    process = begin(folder, "train", "-m", *arguments)
    for _ in range(num_kills):
        time.sleep(draw.uniform(1.0, 6.0))
        # Below the sweep is what the trials are forked from, and below that the trials.
        victims = find_descendants(process.pid)[1:]
        if victims and draw.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(victims), signal.SIGKILL)
            continue
        process.kill()
        process.wait()
        process = go_on(folder, arguments)
    out, _ = process.communicate(timeout=170)
    for _ in range(3):  # a trial of the killed sweep was still there, or was killed
        if process.returncode != 0:
            process = go_on(folder, arguments)
            out, _ = process.communicate(timeout=170)
    assert process.returncode == 0, out
    return only_sweep(folder)


def go_on(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    sweeps = list(folder.glob(SWEEPS))
    return begin(folder, *(["sweep", "resume", str(sweeps[0].parent)] if sweeps else ["train", "-m", *arguments]))


@pytest.mark.parametrize(
    "num_kills, seed", [(1, 0), *(pytest.param(5, seed, marks=pytest.mark.slow) for seed in range(1, 11))]
)
def test_a_killed_sweep_ends_as_one_that_was_not(tmp_path, num_kills, seed):
    arguments = [*FAST, "epochs=25", "optimizer.lr=0.01,0.03", "seed=0,1"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = begin(tmp_path / "whole", "train", "-m", *arguments)
    assert whole.wait(timeout=170) == 0
    killed = kill_at_random(tmp_path / "killed", arguments, num_kills, seed)
    assert len(read_table(killed)) == 4
    assert_same_results(only_sweep(tmp_path / "whole"), killed)


@pytest.mark.slow
def test_a_killed_trial_is_told_and_resumed(tmp_path, cnnlab):
    process = begin(tmp_path, "train", "-m", *FAST, "epochs=300", "seed=0,1")
    wait_for_file(process, tmp_path, AN_EPOCH)
    os.kill(find_descendants(process.pid)[-1], signal.SIGKILL)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 9 and "was killed by SIGKILL" in out and "1 of 2 trials failed" in out
    sweep = only_sweep(tmp_path)
    assert sorted(row["status"] for row in read_table(sweep)) == ["completed", "killed"]
    assert cnnlab("sweep", "resume", str(sweep)).returncode == 0
    assert [row["status"] for row in read_table(sweep)] == ["completed"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_killed_search_has_every_trial_once_and_as_it_is_alone(tmp_path, seed):
    pytest.importorskip("optuna")
    space = ["optimizer.lr=tag(log,interval(1e-4,0.1))", "batch_size=32,64", "engine.threads=1"]
    killed = kill_at_random(tmp_path, [*FAST, "epochs=25", *space, "sweep.trials=6"], 5, seed)
    trials, rows = killed.read_trials(), read_table(killed)
    assert [row["trial"] for row in rows] == [str(number) for number in range(6)]
    assert {row["status"] for row in rows} == {"completed"}
    for trial in random.Random(seed).sample(trials, 2):
        folder = f"alone_{trial.number}"
        alone = begin(tmp_path, "train", *FAST, "epochs=25", "engine.threads=1", *trial.values, f"output_dir={folder}")
        assert alone.wait(timeout=170) == 0
        assert_same_end(RunDirectory(only_run(tmp_path / folder)), killed.run(trial.number))


def test_a_failed_trial_is_told_and_the_others_go_on(cnnlab, tmp_path):
    done = cnnlab("train", "-m", *FAST, "model=mlp", "optimizer=sgd", "optimizer.lr=1e30,0.01", "sweep.workers=1")
    assert done.returncode == 9 and "1 of 2 trials failed" in done.stderr and "learning rate 1e+30" in done.stderr
    assert [row["status"] for row in read_table(only_sweep(tmp_path))] == ["failed", "completed"]


@pytest.mark.slow
def test_a_failed_trial_ends_the_sweep_if_that_is_wanted(cnnlab, tmp_path):
    swept = ["optimizer=sgd", "optimizer.lr=1e30,0.01", "sweep.workers=1", "sweep.on_failure=stop"]
    assert cnnlab("train", "-m", *FAST, "model=mlp", *swept).returncode == 9
    assert [row["status"] for row in read_table(only_sweep(tmp_path))] == ["failed", "waiting"]


def stop_at_work(process: subprocess.Popen[str], folder: Path, signum: int = signal.SIGINT, *, all_of_it=False) -> str:
    """Signals a sweep, or all processes of its group, after some trial's first epoch; returns what it printed."""
    wait_for_file(process, folder, AN_EPOCH)
    (os.killpg if all_of_it else os.kill)(process.pid, signum)
    out, _ = process.communicate(timeout=60)
    return out


@pytest.mark.parametrize(
    "signum, all_of_it", [(signal.SIGTERM, True), pytest.param(signal.SIGINT, False, marks=pytest.mark.slow)]
)
def test_asked_to_stop_it_says_how_to_go_on(tmp_path, signum, all_of_it):
    process = begin(tmp_path, "train", "-m", *FAST, "epochs=100000", "seed=0,1")
    out = stop_at_work(process, tmp_path, signum, all_of_it=all_of_it)
    assert process.returncode == 128 + signum and "cnnlab sweep resume" in out
    found = {row["status"] for row in read_table(only_sweep(tmp_path))}
    assert found <= {"interrupted", "running", "waiting"} and found != {"waiting"}


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_asked_to_stop_before_its_first_trial_it_says_so_too(tmp_path, signum):
    """What trials are forked from is still loading torch, or has just ended by the same signal."""
    process = begin(tmp_path, "train", "-m", *FAST, "epochs=100000", "seed=0,1")
    assert process.stdout is not None and process.stdout.readline().startswith("sweep directory:")
    time.sleep(0.05)  # until it listens
    os.killpg(process.pid, signum)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 128 + signum and "cnnlab sweep resume" in out


@pytest.mark.slow
def test_a_search_is_pruned_and_made_longer(cnnlab, tmp_path):
    space = ["optimizer=sgd", "optimizer.lr=tag(log,interval(1e-5,0.5))", "optimizer.momentum=0.0,0.9"]
    settings = ["sweep.trials=5", "sweep.sampler=random", "sweep.pruner=asha", "sweep.workers=1"]
    done = cnnlab("train", "-m", *FAST, "epochs=9", *space, *settings)
    assert done.returncode == 0, done.stderr
    sweep = only_sweep(tmp_path)
    rows = read_table(sweep)
    assert len(rows) == 5 and {row["status"] for row in rows} == {"completed", "pruned"}
    for row in rows:
        assert int(row["epochs"]) == (9 if row["status"] == "completed" else int(row["epochs"]))
        assert row["status"] == "completed" or int(row["epochs"]) in (1, 3)
    assert cnnlab("sweep", "resume", str(sweep), "sweep.trials=7").returncode == 0
    longer = read_table(sweep)
    assert len(longer) == 7 and longer[:5] == rows
    # A pruned trial is a valid run, and goes on to its end by itself.
    pruned = next(int(row["trial"]) for row in rows if row["status"] == "pruned")
    assert cnnlab("resume", str(sweep.run(pruned))).returncode == 0
    assert len(sweep.run(pruned).read_metrics()) == 9


@pytest.mark.slow
def test_a_model_based_search(cnnlab, tmp_path):
    pytest.importorskip("optuna")
    space = ["optimizer=sgd", "optimizer.lr=tag(log,interval(1e-4,0.5))", "batch_size=int(interval(16,64))"]
    done = cnnlab("train", "-m", *FAST, "epochs=1", *space, "sweep.trials=4")
    assert done.returncode == 0, done.stderr
    sweep = only_sweep(tmp_path)
    assert [row["status"] for row in read_table(sweep)] == ["completed"] * 4
    for trial in sweep.read_trials():
        assert 1e-4 <= trial.config["optimizer"]["lr"] <= 0.5 and 16 <= trial.config["batch_size"] <= 64
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(sweep.study)))
    study = optuna.load_study(study_name="cnnlab", storage=storage)
    assert [t.value for t in study.trials] == [float(row["valid_accuracy"]) for row in read_table(sweep)]


@pytest.mark.parametrize("damage", ["", "{torn"])
def test_the_journal_of_a_search_is_made_anew_of_its_trials(tmp_path, damage):
    """With everything that was learned: the next proposal is that of the journal that was not damaged."""
    pytest.importorskip("optuna")
    axes = [
        Axis("optimizer.lr", (), 1e-4, 1.0, log=True),
        Axis("batch_size", (), 16, 64, whole=True),
        Axis("m", ("a",)),
    ]
    settings = parse_settings({**default_settings(), "trials": 20, "seed": 3})
    sweeps = [SweepDirectory(tmp_path / name) for name in ("whole", "damaged")]
    whole = Study(open_folder(sweeps[0]), settings, axes, "valid_accuracy")
    proposed = []
    for number in range(12):  # more than TPE draws before it learns
        proposed.append(whole.propose(number))
        whole.learn(number, None if number == 4 else 1 / (1 + number % 5))
    open_folder(sweeps[1]).study.write_text(damage + "\n" if damage else "")
    again = Study(sweeps[1], settings, axes, "valid_accuracy")
    for number, values in enumerate(proposed):
        again.remember(number, values)
        again.learn(number, None if number == 4 else 1 / (1 + number % 5))
    assert again.propose(12) == whole.propose(12)
    assert (sweeps[1].path / "optuna.damaged").is_file() == bool(damage)


def default_settings() -> dict[str, Any]:
    return yaml.safe_load((CONF / "sweep" / "default.yaml").read_text())


def open_folder(sweep: SweepDirectory) -> SweepDirectory:
    sweep.path.mkdir()
    return sweep


MISTAKES = {
    "an empty range": (["optimizer.lr=interval(1,0.1)", "sweep.trials=3", "sweep.sampler=random"], "low < high"),
    "a grid of an interval": (["optimizer.lr=interval(0.1,1)"], "sweep.trials=N"),
    "no such key": (["optimizer.lrr=0.1,0.2"], "optimizer.lrr: no such key; did you mean lr"),
    "no such setting": (["optimizer.lr=0.1,0.2", "sweep.seedz=3"], "sweep.seedz"),
    "one bad combination": (["optimizer.lr=0.1,-1", "epochs=1,2"], "optimizer.lr: -1"),
    "nothing varies": (["sweep.trials=3", "sweep.sampler=random"], "nothing varies"),
    "more than there are": (["batch_size=8,16", "epochs=1,2", "sweep.trials=5", "sweep.sampler=random"], "at most 4"),
    "two ways to seed": (["seed=0,1", "sweep.seeds=2"], "expected one of them"),
    "a policy": (["seed=0,1", "sweep.on_failure=again"], "continue, stop or retry:N"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_and_nothing_is_made(cnnlab, tmp_path, mistake):
    swept, told = MISTAKES[mistake]
    done = cnnlab("train", "-m", *FAST, *swept)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_settings_of_a_sweep_are_for_sweeps(cnnlab):
    done = cnnlab("train", *FAST, "sweep.seeds=3")
    assert done.returncode == 2 and "expected it beside -m" in done.stderr


def test_a_directory_that_is_no_sweep_or_is_damaged(cnnlab, tmp_path):
    assert cnnlab("sweep", "status", ".").returncode == 2
    (tmp_path / "sweep.yaml").write_text("[1, 2]")
    for deed in ("status", "resume"):
        done = cnnlab("sweep", deed, ".")
        assert done.returncode == 2 and "is not what a sweep wrote" in done.stderr


@pytest.mark.slow
def test_what_is_decided_does_not_change_with_the_yaml(cnnlab, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text("# @package _global_\nbatch_size: 32\n")
    swept = ["--config-dir", "mine", "experiment=own", *FAST, "epochs=1", "seed=0,1", "sweep.max_time=0.01s"]
    assert cnnlab("train", "-m", *swept).returncode == 0
    (folder / "own.yaml").write_text("# @package _global_\nbatch_size: 7\n")
    sweep = only_sweep(tmp_path)
    assert cnnlab("sweep", "resume", str(sweep), "sweep.max_time=1h").returncode == 0
    assert [yaml.safe_load(sweep.run(n).config.read_text())["batch_size"] for n in (0, 1)] == [32, 32]


def test_every_line_of_the_parallel_axes_goes_through_its_values():
    """By the pixel that each axis, with its own scale, gives the value."""
    axes = [
        Axis("optimizer.lr", (), 1e-4, 1e-1, log=True),
        Axis("batch_size", (), 16, 64, whole=True),
        Axis("model", ("lenet", "mlp", "linear")),
    ]
    scored = [Scored(0, 0.5, [1e-3, 32.0, 2]), Scored(1, 0.9, [1e-1, 16.0, 0])]
    figure = draw_parallel(scored, "valid_accuracy", axes)
    host, *twins = figure.axes[:3]
    drawn = [[float(height) for height in line.get_ydata()] for line in host.lines]
    assert drawn == [pytest.approx([1 / 3, 1 / 3, 1]), pytest.approx([1, 0, 0])]  # the best last, on top
    assert [label.get_text() for label in host.get_xticklabels()] == ["optimizer.lr", "batch_size", "model"]
    assert [label.get_text() for label in twins[1].get_yticklabels()] == ["lenet", "mlp", "linear"]
