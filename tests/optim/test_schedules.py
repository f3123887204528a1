"""Schedules against tables of values and against torch's own schedulers, step for step."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from torch import nn
from torch.optim import lr_scheduler

from cnnlab.composition import CONF
from cnnlab.config import parse
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.errors import ConfigError
from cnnlab.optim import SCHEDULES
from cnnlab.optim.registry import ForEverySchedule
from cnnlab.optim.schedules import build_schedule
from cnnlab.runs.start import resume, start
from tests.conftest import SMALL, choose, compose_tree, small_config
from tests.runs.test_resume import assert_same, metrics

NUM_STEPS, STEPS_PER_EPOCH = 100, 10

TABLES = [
    ({"name": "constant"}, {0: 1, 50: 1, 100: 1}),
    ({"name": "step", "every": 2, "factor": 0.1}, {0: 1, 19: 1, 20: 0.1, 39: 0.1, 40: 0.01}),
    ({"name": "step", "every": 0.5, "factor": 0.5}, {4: 1, 5: 0.5, 10: 0.25}),
    ({"name": "multi_step", "epochs": [3, 4.5], "factor": 0.1}, {0: 1, 29: 1, 30: 0.1, 44: 0.1, 45: 0.01, 99: 0.01}),
    ({"name": "exponential", "factor": 0.25}, {0: 1, 5: 0.5, 10: 0.25, 20: 0.0625}),
    ({"name": "linear"}, {0: 1, 25: 0.75, 100: 0, 120: 0}),
    ({"name": "linear", "final": 0.5}, {0: 1, 50: 0.75, 100: 0.5}),
    ({"name": "polynomial", "power": 2.0}, {0: 1, 50: 0.25, 90: 0.01, 100: 0}),
    ({"name": "cosine"}, {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0}),
    ({"name": "cosine", "final": 0.1}, {0: 1, 50: 0.55, 100: 0.1, 120: 0.1}),
    ({"name": "one_cycle", "start": 0.1, "peak": 0.4, "final": 0.0}, {0: 0.1, 20: 0.55, 40: 1, 70: 0.5, 100: 0}),
    ({"name": "one_cycle", "start": 0.1, "peak": 0.0, "final": 0.0}, {0: 1, 50: 0.5, 100: 0}),
    ({"name": "one_cycle", "start": 0.0, "peak": 1.0}, {0: 0, 50: 0.5, 100: 1}),
    ({"name": "triangle"}, {0: 0.2, 23: 1, 100: 0.07, 120: 0.07}),
    ({"name": "triangle", "start": 0.0, "peak": 0.5, "final": 0.5}, {0: 0, 25: 0.5, 50: 1, 75: 0.75, 100: 0.5}),
    ({"name": "triangle", "peak": 1.0}, {0: 0.2, 50: 0.6, 100: 1}),
    ({"name": "triangle", "peak": 0.0, "final": 0.0}, {0: 1, 50: 0.5, 100: 0}),
    ({"name": "restarts", "epochs": 2, "growth": 2}, {0: 1, 10: 0.5, 20: 1, 40: 0.5, 60: 1}),
    ({"name": "restarts", "epochs": 0.5, "growth": 1, "final": 0.2}, {0: 1, 5: 1, 95: 1}),
]


def build(given: dict, num_warmup: int = 0):
    return build_schedule(choose(SCHEDULES, **given), NUM_STEPS, STEPS_PER_EPOCH, num_warmup)


@pytest.mark.parametrize(("given", "table"), TABLES)
def test_tables(given, table):
    for step, multiplier in table.items():
        assert build(given)(step) == pytest.approx(multiplier, abs=1e-12)


def test_every_schedule_has_a_table_or_a_test_of_its_own():
    assert {given["name"] for given, _ in TABLES} == set(SCHEDULES) - {"reduce_on_plateau"}


# torch's one-cycle reaches its end at the last step, ours after it: one step more makes them the same.
TORCHS = [
    ({"name": "step", "every": 2, "factor": 0.3}, lambda o: lr_scheduler.StepLR(o, 20, 0.3)),
    ({"name": "multi_step", "epochs": [3, 7]}, lambda o: lr_scheduler.MultiStepLR(o, [30, 70], 0.1)),
    ({"name": "exponential", "factor": 0.5}, lambda o: lr_scheduler.ExponentialLR(o, 0.5**0.1)),
    ({"name": "linear", "final": 0.2}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, 100)),
    ({"name": "polynomial", "power": 0.9}, lambda o: lr_scheduler.PolynomialLR(o, 100, 0.9)),
    ({"name": "cosine", "final": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, 100, 0.1)),
    ({"name": "one_cycle"}, lambda o: lr_scheduler.OneCycleLR(o, 1.0, 101, pct_start=31 / 101, cycle_momentum=False)),
    ({"name": "restarts", "epochs": 1}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2)),
]


def torchs_rates(make) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(NUM_STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("given", "make"), TORCHS, ids=[given["name"] for given, _ in TORCHS])
def test_torchs_own_step_for_step(given, make):
    assert [build(given)(step) for step in range(NUM_STEPS)] == pytest.approx(torchs_rates(make), abs=1e-9)


@pytest.mark.parametrize("given", [{"name": "cosine"}, {"name": "step", "every": 2}, {"name": "one_cycle"}])
def test_a_warmup_rises_evenly_and_then_the_schedule_begins(given):
    warm = build(given, num_warmup=20)
    cold = build_schedule(choose(SCHEDULES, **given), NUM_STEPS - 20, STEPS_PER_EPOCH)
    assert [warm(step) for step in range(20)] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert [warm(step) for step in range(20, 100)] == [cold(step) for step in range(80)]


def test_a_warmup_is_torchs_linear_one_before_another():
    def make(optimizer):
        parts = [lr_scheduler.LinearLR(optimizer, 1 / 21, 1.0, 20), lr_scheduler.CosineAnnealingLR(optimizer, 80)]
        return lr_scheduler.SequentialLR(optimizer, parts, [20])

    schedule = build({"name": "cosine"}, num_warmup=20)
    assert [schedule(step) for step in range(NUM_STEPS)] == pytest.approx(torchs_rates(make), abs=1e-9)


def test_a_warmup_as_long_as_the_run_never_ends():
    schedule = build({"name": "linear"}, num_warmup=150)
    assert all(0 < schedule(step) < 1 for step in range(NUM_STEPS))


# --- Plateau ------------------------------------------------------------------------------------------------

LOSSES = [
    5,
    4,
    3,
    3,
    3,
    2.9999,
    2.5,
    2.6,
    2.6,
    2.6,
    2.6,
    2.4,
    2.6,
    2.6,
    2.6,
    2.6,
    2.6,
    2.6,
    2.6,
    2.3,
    2.2,
    2.2,
    2.2,
    2.2,
]


def rows_of(values: list[float], metric: str) -> list[dict]:
    return [{"step": (epoch + 1) * STEPS_PER_EPOCH, metric: value} for epoch, value in enumerate(values)]


@pytest.mark.parametrize("metric", ["valid_loss", "valid_accuracy"])
@pytest.mark.parametrize("arguments", [{}, {"cooldown": 2}, {"final": 0.2}, {"patience": 0}, {"threshold": 0.05}])
def test_a_plateau_is_torchs_own_epoch_for_epoch(metric, arguments):
    settings = {"factor": 0.5, "patience": 2, "threshold": 1e-4, "cooldown": 0, "final": 0.0} | arguments
    values = LOSSES if metric == "valid_loss" else [10 - loss for loss in LOSSES]
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    torchs = lr_scheduler.ReduceLROnPlateau(
        optimizer, "min" if metric == "valid_loss" else "max", settings["factor"], settings["patience"],
        settings["threshold"], cooldown=settings["cooldown"], min_lr=settings["final"],
    )  # fmt: skip
    schedule = build({"name": "reduce_on_plateau", "metric": metric, **settings})
    reached = set()
    for epoch, value in enumerate(values, start=1):
        torchs.step(value)
        multiplier = schedule(0, rows_of(values[:epoch], metric))
        assert multiplier == pytest.approx(optimizer.param_groups[0]["lr"])
        reached.add(multiplier)
    assert len(reached) >= 3


def test_a_plateau_does_not_count_an_epoch_that_is_not_whole():
    rows = rows_of([3, 3, 3], "valid_loss")
    schedule = build({"name": "reduce_on_plateau", "patience": 1})
    assert schedule(30, rows) == 0.1
    assert schedule(30, [*rows[:2], {"step": 25, "valid_loss": 3}]) == 1


class CountedRow(dict):
    num_read = 0

    def __getitem__(self, key):
        CountedRow.num_read += 1
        return super().__getitem__(key)


def test_a_plateau_reads_each_row_once_and_forgets_those_that_are_gone(monkeypatch):
    monkeypatch.setattr(CountedRow, "num_read", 0)
    given = {"name": "reduce_on_plateau", "factor": 0.5, "patience": 1}
    schedule, rows, history = build(given), [], rows_of(LOSSES * 20, "valid_loss")
    for row in history:
        rows.append(CountedRow(row))
        for _ in range(5):  # steps of the epoch after
            multiplier = schedule(0, rows)
        assert multiplier == build(given)(0, history[: len(rows)])
    assert CountedRow.num_read == 2 * len(history)  # its step and its loss
    assert schedule(0, rows[:3]) == build(given)(0, history[:3])
    other = [*rows[:2], {"step": 30, "valid_loss": -5.0}, {"step": 40, "valid_loss": -5.0}]
    assert schedule(0, other) == build(given)(0, other)


def test_a_run_on_a_plateau_resumes_exactly(tmp_path):
    plateau = ["schedule=reduce_on_plateau", "schedule.patience=0", "schedule.factor=0.5", "optimizer.lr=0.05"]
    whole = start(small_config(tmp_path / "whole", "epochs=6", *plateau), [])
    rates = [float(row["lr"]) for row in metrics(whole)]
    assert min(rates) < max(rates) == 0.05
    halves = start(small_config(tmp_path / "halves", "steps=70", *plateau), [])
    resume(str(halves.path), ["steps=null", "epochs=6"])
    assert metrics(halves) == metrics(whole)
    assert_same(load_checkpoint(halves.last)["model"], load_checkpoint(whole.last)["model"])


# --- As typed -------------------------------------------------------------------------------------------------


def test_a_run_warms_up(tmp_path):
    run = start(small_config(tmp_path, "schedule=linear", "schedule.warmup=1 epoch", "optimizer.lr=0.01"), [])
    rates = [float(row["lr"]) for row in metrics(run)]  # of the last step of each of two epochs of 21
    assert rates == pytest.approx([0.01 * 21 / 22, 0.01 * 1 / 21])


def test_the_shared_key_stands_in_train_yaml_with_its_default():
    assert yaml.safe_load((CONF / "train.yaml").read_text())["schedule"] == vars(ForEverySchedule())


def test_a_warmup_that_is_no_duration_is_told():
    with pytest.raises(ConfigError, match="schedule.warmup: '3' was given; expected a number above 0 and a unit"):
        parse(compose_tree(*SMALL, "schedule.warmup='3'"))


def test_epochs_that_are_no_whole_number_of_steps_end_where_they_end():
    """After 1.1 epochs of 50 steps, 55, though 1.1 · 50 is a little more in floating point."""
    for every, steps in ((1.1, 55), (0.3, 15), (2.3, 115)):
        rates = [SCHEDULES["step"](step=step, steps_per_epoch=50, every=every, factor=0.1) for step in range(2 * steps)]
        assert rates == [1.0] * steps + [0.1] * steps


def test_a_plateau_begins_where_there_is_a_number():
    """As torch's does: what is no number is not the best of anything."""
    schedule = build({"name": "reduce_on_plateau", "factor": 0.1, "patience": 3})
    values = [math.nan, *(1 / n for n in range(1, 14))]
    assert [schedule(0, rows_of(values[:n], "valid_loss")) for n in range(1, 15)] == [1.0] * 14


def test_the_smallest_periods_end():
    """In which the time between two restarts is less than a step is told from the next."""
    for epochs in (1e-20, 1e-300):
        for growth in (1, 2):
            value = SCHEDULES["restarts"](step=40, steps_per_epoch=10, epochs=epochs, growth=growth, final=0.0)
            assert 0 <= value <= 1
    assert SCHEDULES["step"](step=2, steps_per_epoch=20, every=1e-320, factor=0.1) == 0.0
