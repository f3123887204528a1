from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.groups import build_optimizer
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.start import resume, start
from tests.conftest import choose, small_config
from tests.runs.test_resume import assert_same_end

TARGET = torch.tensor([[3.0, -2.0]])
START = torch.tensor([[1.0, 1.0]])
RATES = [0.05, 0.1, 0.2, 0.2, 0.2, 0.1]


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.y = nn.Parameter(START.clone())


def gradient(y: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[1.0, 4.0]]) * (y - TARGET)


def descend(optimizer: torch.optim.Optimizer, point: Point, rates: list[float]) -> None:
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        point.y.grad = gradient(point.y.detach())
        optimizer.step()


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_three_sequences_as_the_paper_writes_them(name):
    """Algorithm 1 of the paper, written out with a new name for each value."""
    point = Point()
    optimizer = build_optimizer(choose(OPTIMIZERS, name, lr=0.1, weight_decay=0.01), point, 8)
    descend(optimizer, point, RATES)

    z = x = y = START
    square, weight_sum, adam = torch.zeros(1, 2), 0.0, name == "schedule_free_adamw"
    for step, rate in enumerate(RATES, start=1):
        grad = gradient(y)
        if adam:
            square = 0.999 * square + 0.001 * grad**2
            rate = rate * math.sqrt(1 - 0.999**step)
        z = z - rate * (grad / (square.sqrt() + 1e-8) if adam else grad) - rate * 0.01 * y
        weight_sum += rate**2
        x = x + rate**2 / weight_sum * (z - x)
        y = 0.1 * z + 0.9 * x
    torch.testing.assert_close(point.y.detach(), y)
    with optimizer.averaged():
        torch.testing.assert_close(point.y.detach(), x)


def test_without_momentum_it_is_the_average_of_gradient_descent():
    point, plain = Point(), START
    optimizer = build_optimizer(choose(OPTIMIZERS, "schedule_free_sgd", lr=0.1, momentum=0.0), point, 8)
    descend(optimizer, point, [0.1] * 10)
    visited = []
    for _ in range(10):
        plain = plain - 0.1 * gradient(plain)
        visited.append(plain)
    torch.testing.assert_close(point.y.detach(), plain)
    with optimizer.averaged():
        torch.testing.assert_close(point.y.detach(), torch.stack(visited).mean(0))


def test_looking_at_the_average_moves_nothing():
    points = [Point(), Point()]
    for point, looks in zip(points, (False, True), strict=True):
        optimizer = build_optimizer(choose(OPTIMIZERS, "schedule_free_adamw"), point, 8)
        for rate in RATES:
            descend(optimizer, point, [rate])
            if looks:
                with optimizer.averaged():
                    pass
    assert torch.equal(points[0].y, points[1].y)


def test_before_the_first_step_the_average_is_the_start():
    point = Point()
    optimizer = build_optimizer(choose(OPTIMIZERS, "schedule_free_sgd"), point, 8)
    with optimizer.averaged():
        assert torch.equal(point.y.detach(), START)
    optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(point.y.detach(), START)


def test_a_run_evaluates_and_keeps_the_averages_and_resumes_exactly(tmp_path):
    overrides = ["optimizer=schedule_free_adamw", "optimizer.lr=0.01", "engine.checkpoint_every=4 steps"]
    whole = start(small_config(tmp_path / "whole", *overrides), [])
    run = start(small_config(tmp_path / "halves", *overrides, "steps=30"), [])
    resume(str(run.path), ["steps=null"])
    assert_same_end(run, whole)
    for checkpoint, row in (("last", "final"), ("best", "best")):
        again = evaluate_run(str(run.path), "valid", checkpoint)
        stored = run.read_json(run.summary)[row]
        assert (again["loss"], again["accuracy"]) == (stored["valid_loss"], stored["valid_accuracy"])


def test_what_learns_later_takes_its_first_step_as_if_there_had_been_none_before():
    """Adam's correction for a young mean of squares belongs to its own first steps."""
    late, fresh = Point(), Point()
    optimizers = [build_optimizer(choose(OPTIMIZERS, "schedule_free_adamw", lr=0.1), each, 8) for each in (late, fresh)]
    for _ in range(1000):
        optimizers[0].step()
    for optimizer, point in zip(optimizers, (late, fresh), strict=True):
        descend(optimizer, point, RATES)
    assert torch.equal(late.y, fresh.y)
