"""`cnnlab find-lr` as a user types it."""

from __future__ import annotations

import re

import pytest

from cnnlab.cli import main
from cnnlab.find_lr import find_lr
from cnnlab.optim import OPTIMIZERS
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
    assert re.match(r"\d\d steps from lr 1e-05 to .* a 10th of that rate is suggested\n", out)
    assert [path.name for path in tmp_path.iterdir()] == ["find_lr.png"]
    assert (tmp_path / "find_lr.png").read_bytes().startswith(b"\x89PNG")


def test_the_suggestion_is_for_the_key_as_it_is_typed():
    plain = find_lr(SMALL, [], "a.png", 1e-5, 1.0)
    scaled = find_lr([*SMALL, "optimizer.scale_to_batch=16"], [], "b.png", 1e-5, 1.0)  # batches of 64: 4 times the rate
    assert scaled == pytest.approx(plain / 4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["--to", "0.0001", "optimizer=sgd"], "but it fell by less than 5%, perhaps by chance"),
        (["--to", "0.003", "batch_size=16"], "but the loss was still falling there: sweep to a larger rate (--to)"),
    ],
)
def test_what_speaks_against_the_suggestion_is_said(overrides, said, tmp_path, capsys):
    assert main(["find-lr", "--output", "folder/here.png", "--from", "1e-5", *overrides, *SMALL]) == 0
    assert said in capsys.readouterr().out
    assert (tmp_path / "folder" / "here.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optimizer.lrr=1"], "optimizer.lrr: no such key; did you mean lr?"),
        (["model=lenett"], "model: no 'lenett'; did you mean lenet"),
        (["experiment=linear_regression"], "an epoch of 15 images has 1 steps of 15; expected at least 10"),
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
