from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.optim import LOSSES, OPTIMIZERS, SCHEDULES
from cnnlab.optim.optimizers import plain_step

TORCHS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 1e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
}


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, step) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        optimizer.zero_grad()
        model(torch.randn(5, 6, generator=generator)).square().mean().backward()
        step()


def test_every_optimizer_is_compared():
    assert set(OPTIMIZERS) == set(TORCHS)


@pytest.mark.parametrize("name", TORCHS)
def test_steps_are_torchs_own(name):
    kind, arguments = TORCHS[name]
    results = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(6, 4)
        if ours:
            optimizer = OPTIMIZERS.build({"name": name, **arguments}, params=model.parameters())
            take_steps(model, optimizer, plain_step(optimizer))
        else:
            optimizer = kind(model.parameters(), **arguments, fused=True)
            take_steps(model, optimizer, optimizer.step)
        results.append(model.weight.detach())
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("given", "table"),
    [
        ({"name": "constant"}, {0: 1, 50: 1, 100: 1}),
        ({"name": "step", "every": 2, "factor": 0.1}, {0: 1, 19: 1, 20: 0.1, 39: 0.1, 40: 0.01}),
        ({"name": "step", "every": 0.5, "factor": 0.5}, {4: 1, 5: 0.5, 10: 0.25}),
        ({"name": "cosine"}, {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0}),
        ({"name": "cosine", "final": 0.1}, {0: 1, 50: 0.55, 100: 0.1, 120: 0.1}),
    ],
)
def test_schedules_against_tables(given, table):
    schedule = SCHEDULES.build(given, num_steps=100, steps_per_epoch=10)
    for step, multiplier in table.items():
        assert schedule(step) == pytest.approx(multiplier, abs=1e-12)


def test_cross_entropy_with_smoothing_is_the_mixture_of_both_targets():
    outputs, labels = torch.randn(7, 5), torch.arange(7) % 5
    loss = LOSSES.build({"name": "cross_entropy", "label_smoothing": 0.1})
    by_hand = -(0.9 * F.log_softmax(outputs, 1)[torch.arange(7), labels] + 0.1 * F.log_softmax(outputs, 1).mean(1))
    torch.testing.assert_close(loss(outputs, labels), by_hand.mean())
