"""`cnnlab find-lr` as a user types it."""

from __future__ import annotations

import math
import re

import pytest

from cnnlab.cli import main
from cnnlab.find_lr import find_lr
from cnnlab.optim import OPTIMIZERS
from cnnlab.runs.directory import RunDirectory
from tests.conftest import SMALL

ADAM = ("lr", "beta1", "beta2", "weight_decay")  # what the default optimizer has


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_draws_and_suggests_a_rate_and_leaves_nothing_else(tmp_path, capsys):
    sgd = ["optimizer=sgd", "optimizer.momentum=0.9", "batch_size=16"]
    assert main(["find-lr", *SMALL, *sgd]) == 0
    out = capsys.readouterr().out
    rate = float(re.search(r"suggested: optimizer.lr=(\S+) \(see find_lr.png\)", out)[1])
    assert 0.002 < rate < 0.1
    assert re.match(r"3 sweeps of \d+ steps from lr 1e-05 to .* a 5th of that rate is suggested\n", out)
    assert [path.name for path in tmp_path.iterdir()] == ["find_lr.png"]
    assert (tmp_path / "find_lr.png").read_bytes().startswith(b"\x89PNG")


def test_the_suggestion_is_for_the_key_as_it_is_typed():
    plain = find_lr(SMALL, [], "a.png", 1e-5, 1.0)
    scaled = find_lr([*SMALL, "optimizer.scale_to_batch=16"], [], "b.png", 1e-5, 1.0)  # batches of 64: 4 times the rate
    assert scaled == pytest.approx(plain / 4)


def test_no_rate_is_suggested_where_none_shows(tmp_path, capsys):
    assert main(["find-lr", "--output", "folder/here.png", "--to", "0.0001", "optimizer=sgd", *SMALL]) == 0
    out = capsys.readouterr().out
    assert (
        "of outputs given to the wrong images\nno suggestion (see folder/here.png). What may help:\n  - a batch_size"
        in out
    )
    assert "suggested:" not in out
    assert (tmp_path / "folder" / "here.png").is_file()


def test_that_the_sweep_ended_too_early_is_said(capsys):
    assert main(["find-lr", "--from", "1e-5", "--to", "0.003", "batch_size=16", *SMALL]) == 0
    assert ", still falling: sweep to a larger rate (--to); a 5th" in capsys.readouterr().out


PAIRS = [
    "optimizer=sgd dataset.image_size=12 steps=1000",  # which begins with a plateau
    "model=two_conv optimizer=sgd batch_size=32 steps=400",
    "model=lenet steps=400",
    "model=mlp optimizer=sgd optimizer.momentum=0.9 dataset.image_size=8 steps=400",
    "model=resnet20 optimizer=sgd optimizer.momentum=0.9 dataset.image_size=12 steps=100",
    "experiment=linear_regression",
]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_the_suggestion_trains_nearly_as_well_as_the_best_of_a_grid(pair, tmp_path):
    """By the validation loss, or without such images the training loss."""

    def train(rate: float) -> float:
        overrides = [*pair.split(), f"optimizer.lr={rate:g}", f"output_dir={tmp_path}", "plots=off"]
        if main(["train", *overrides, f"name=rate{rate:g}"]) != 0:
            return math.inf
        (run,) = tmp_path.glob(f"rate{rate:g}/*")
        row = RunDirectory(run).read_metrics()[-1]
        return row.get("valid_loss") or row["train_loss"]

    suggestion = find_lr(pair.split(), [], "find_lr.png", 1e-5, 10.0)
    assert suggestion is not None
    losses = {rate: train(rate) for rate in (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
    suggested = train(suggestion)
    print(f"RATIO {pair}: {suggestion:.2g} {suggested:.3f} {losses}")
    assert suggested <= 2 * min(losses.values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optimizer.lrr=1"], "optimizer.lrr: no such key; did you mean lr?"),
        (["batch_size=1"], "batch_size: 1 was given; expected at least 2 images"),
        (["model=lenett"], "model: no 'lenett'; did you mean lenet"),
        ([*SMALL, "--from", "1", "--to", "0.1"], "expected two rates above 0, the smaller one first"),
    ],
)
def test_mistakes_are_told_as_for_train(arguments, told, tmp_path, capsys):
    assert main(["find-lr", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_optimizer_without_a_rate_is_told(monkeypatch, capsys):
    def rateless(params):
        return OPTIMIZERS["sgd"](params, lr=0.1)

    monkeypatch.setitem(OPTIMIZERS._builders, "rateless", rateless)
    assert main(["find-lr", *SMALL, "optimizer.name=rateless", *(f"~optimizer.{key}" for key in ADAM)]) == 2
    assert "optimizer: rateless has no argument lr" in capsys.readouterr().err
