"""Exact resume: whatever stops a run, going on with it ends in the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cnnlab.composition import CONF
from cnnlab.engine.checkpoint import load_checkpoint, save_checkpoint
from cnnlab.errors import CheckpointError, ConfigError, DataError
from cnnlab.metrics import TIMINGS
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from tests.conftest import only_run, small_config, wait_for_file
from tests.data.files import write_mnist, write_photographs

NUM_KILLS, MANY_KILLS = 4, 64  # in the suite, and under -m slow


def metrics(run: RunDirectory) -> list[dict[str, float | None]]:
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in run.read_metrics()]


def assert_same(left: object, right: object, where: str = "") -> None:
    """Equality of nested containers with tensors inside, bit for bit."""
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right, where


def assert_same_end(one: RunDirectory, other: RunDirectory) -> None:
    left, right = load_checkpoint(one.last), load_checkpoint(other.last)
    assert_same(left["model"], right["model"])
    assert_same(left["optimizer"], right["optimizer"])
    assert left["state"]["step"] == right["state"]["step"]
    assert metrics(one) == metrics(other)
    assert_same(load_checkpoint(one.best)["model"], load_checkpoint(other.best)["model"])
    ends = [run.read_json(run.summary) for run in (one, other)]
    assert ends[0]["test"] == ends[1]["test"] and ends[0]["status"] == ends[1]["status"] == "completed"


@pytest.mark.parametrize("num", [NUM_KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(tmp_path, num):
    command = [sys.executable, "-m", "tests.runs.killing", str(tmp_path), str(num)]
    done = subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    kills = json.loads((tmp_path / "kills.json").read_text())
    assert len(kills) == num
    for kill in kills:
        run, whole = RunDirectory(kill["run"]), RunDirectory(kill["whole"])
        if not whole.out_of_fold.exists():
            assert_same_end(run, whole)
        else:
            assert run.out_of_fold.read_bytes() == whole.out_of_fold.read_bytes()
            for number in range(2):
                assert_same_end(run.fold(number), whole.fold(number))
    if num == MANY_KILLS:  # they hit first moments, runs that were under way, and the writing of files
        assert sum(kill["status"] is None for kill in kills) >= 3
        assert sum(kill["status"] == "running" for kill in kills) >= num // 2
        assert len({kill["epochs"] for kill in kills}) >= 4
        assert sum(bool(kill["partial"]) for kill in kills) >= 5


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_finishes_the_step_saves_and_says_so(tmp_path, signum):
    command = [sys.executable, "-m", "cnnlab.train", "dataset.image_size=12", "epochs=3000", "engine.threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_file(process, tmp_path, "outputs/*/*/checkpoints/last.pt")
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    run = RunDirectory(only_run(tmp_path / "outputs"))
    assert out.splitlines()[-1].startswith("run directory: outputs/")
    assert f"stopped by {signum.name}" in err and "Traceback" not in err
    summary = run.read_json(run.summary)
    assert (summary["status"], summary["reason"]) == ("interrupted", f"stopped by {signum.name}")
    assert load_checkpoint(run.last)["state"]["step"] == summary["totals"]["steps"] > 0
    assert run.curves.is_file()


def test_a_torn_last_checkpoint_is_said_and_the_one_before_is_used(tmp_path, capsys):
    config = small_config(tmp_path / "a", "engine.checkpoint_every=5 steps")
    whole = start(config, [])
    run = start(small_config(tmp_path / "b", "engine.checkpoint_every=5 steps"), [])
    run.last.write_bytes(run.last.read_bytes()[:1000])
    resume(str(run.path), [])
    output = capsys.readouterr().out
    assert "last.pt: truncated" in output and "resumed at step 40 of 42" in output
    assert_same_end(run, whole)
    for path in (run.last, run.previous):
        path.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        resume(str(run.path), [])


def test_a_prolonged_run_equals_one_that_was_long_from_the_start(tmp_path):
    long = start(small_config(tmp_path / "long", "epochs=3"), [])
    run = start(small_config(tmp_path / "short", "steps=30"), [])  # ends in the middle of the second epoch
    resume(str(run.path), ["steps=null", "epochs=3"])
    assert metrics(run) == metrics(long)
    assert_same(load_checkpoint(run.last)["model"], load_checkpoint(long.last)["model"])
    assert run.read_config()["epochs"] == 3


@pytest.mark.parametrize(("name", "num_updates"), [pytest.param("swa", 2, marks=pytest.mark.slow), ("ema", 15)])
def test_an_average_of_the_weights_goes_on_in_the_middle_of_an_epoch(tmp_path, name, num_updates):
    overrides = [f"average={name}", "model=resnet20", "dataset.image_size=8", "epochs=4", "batch_size=300"]
    overrides += ["engine.checkpoint_every=5 steps", *(["average.start=0.3"] if name == "swa" else [])]
    whole = start(small_config(tmp_path / "whole", *overrides), [])
    run = start(small_config(tmp_path / "short", *overrides), [])
    run.last.unlink()
    before = load_checkpoint(run.previous)
    assert before["average"]["num_updates"] == num_updates
    assert before["state"]["step"] % 5 == 0 and before["state"]["step"] % len(metrics(run))
    resume(str(run.path), [])
    assert_same_end(run, whole)
    assert_same(load_checkpoint(run.last)["average"], load_checkpoint(whole.last)["average"])


def test_a_run_over_packed_pictures_goes_on_in_the_middle_of_an_epoch(tmp_path):
    write_photographs(tmp_path / "pictures", num=40, width=30, height=24)
    overrides = ["dataset=image_folder", f"dataset.root={tmp_path / 'pictures'}", "augment=resized_crop"]
    overrides += ["dataset.resize=16", "batch_size=8", "engine.checkpoint_every=3 steps", "dataset.normalize=auto"]
    whole = start(small_config(tmp_path / "whole", *overrides), [])
    run = start(small_config(tmp_path / "short", *overrides), [])
    run.last.unlink()
    assert load_checkpoint(run.previous)["state"]["step"] == 6  # of 8
    resume(str(run.path), [])
    assert_same_end(run, whole)
    assert len(list((tmp_path / "pictures" / ".cnnlab").iterdir())) == 1


def test_only_length_and_engine_may_change(tmp_path):
    run = start(small_config(tmp_path), [])
    with pytest.raises(ConfigError, match="seed=1: cannot change within a run"):
        resume(str(run.path), ["seed=1"])
    with pytest.raises(ConfigError, match="engine.device"):
        resume(str(run.path), ["engine.device=abacus"])
    assert run.read_json(run.summary)["status"] == "completed"


def test_a_run_without_a_checkpoint_starts_from_its_beginning(tmp_path):
    whole = start(small_config(tmp_path / "a"), [])
    run = start(small_config(tmp_path / "b"), [])
    for path in Path(run.path).rglob("*.pt"):
        path.unlink()
    resume(str(run.path), [])
    assert_same_end(run, whole)


def test_an_attempt_that_fails_leaves_what_was_earned(tmp_path):
    """A completed run whose data are gone keeps its results, its configuration and its status; the attempt is told."""
    write_mnist(tmp_path / "data", num_train=200, num_test=50)
    data = ["dataset=mnist", "dataset.image_size=12", f"dataset.root={tmp_path / 'data'}", "dataset.download=false"]
    run = start(small_config(tmp_path / "out", *data), [])
    files = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path != run.summary}
    earned = run.read_json(run.summary)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    with pytest.raises(DataError, match="data missing"):
        resume(str(run.path), ["epochs=20"])
    assert run.read_json(run.summary) == earned
    shutil.move(tmp_path / "moved", tmp_path / "data")
    run.last.write_bytes(b"torn")
    run.previous.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        resume(str(run.path), ["epochs=20"])
    found = run.read_json(run.summary)
    assert found.pop("last_attempt")["status"] == "failed" and found == earned
    run.last.write_bytes(files[run.last])
    run.previous.write_bytes(files[run.previous])
    assert {path: path.read_bytes() for path in files if path != run.log} == {
        path: content for path, content in files.items() if path != run.log
    }
    resume(str(run.path), ["epochs=3"])
    ended = run.read_json(run.summary)
    assert ended["status"] == "completed" and "last_attempt" not in ended and ended["totals"]["epochs"] == 3


def test_a_run_does_not_go_on_to_before_where_it_is(tmp_path):
    run = start(small_config(tmp_path), [])
    before = run.summary.read_bytes(), run.metrics.read_bytes(), run.config.read_bytes()
    with pytest.raises(ConfigError, match=r"21 steps were asked for, and .* has taken 42; expected at least as many"):
        resume(str(run.path), ["epochs=1"])
    assert (run.summary.read_bytes(), run.metrics.read_bytes(), run.config.read_bytes())[1:] == before[1:]
    assert run.read_json(run.summary)["status"] == "completed"


def test_what_finds_the_best_epoch_stays(tmp_path):
    run = start(small_config(tmp_path), [])
    with pytest.raises(ConfigError, match="engine.select_by=valid_loss: cannot change within a run; expected epochs"):
        resume(str(run.path), ["engine.select_by=valid_loss"])


def test_an_end_inside_an_epoch_that_is_best_is_what_is_used_until_the_run_goes_on(tmp_path):
    run = start(small_config(tmp_path / "short", "steps=30"), [])
    summary = run.read_json(run.summary)
    assert summary["best"]["step"] == 30 and summary["chosen"] == "last.pt" and run.find_weights() == run.last
    assert load_checkpoint(run.best)["row"]["step"] == 21
    resume(str(run.path), ["steps=null", "epochs=3"])
    assert_same_end(run, start(small_config(tmp_path / "long", "epochs=3"), []))
    assert run.read_json(run.summary)["chosen"] == "best.pt"


def test_metrics_that_are_gone_are_told(tmp_path):
    run = start(small_config(tmp_path), [])
    run.metrics.unlink()
    with pytest.raises(CheckpointError, match="metrics.csv: has 0 epochs, and the checkpoint was written after 2"):
        resume(str(run.path), ["epochs=3"])


def test_a_best_checkpoint_of_another_epoch_is_told(tmp_path):
    run = start(small_config(tmp_path, "epochs=3"), [])
    contents = load_checkpoint(run.best)
    save_checkpoint(run.best, contents | {"row": contents["row"] | {"epoch": 1}})
    with pytest.raises(CheckpointError, match="best.pt: holds the weights of epoch 1, and those of epoch 3"):
        resume(str(run.path), [])
    run.best.unlink()
    run.write_json(run.summary, run.read_json(run.summary) | {"chosen": "best.pt"})
    with pytest.raises(CheckpointError, match="best.pt: missing, and with it the weights that were chosen"):
        run.find_weights()
