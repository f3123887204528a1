"""Schedules: a large step first, a small one at the end.

Stands on: momentum.

A constant rate has to be two things at once: large, so that the start is quick, and small, so that the end
is calm. Gradients of small batches are noisy, and with a constant rate the weights keep dancing around the
goal, the wider the larger lr is. A schedule is a function of the step that multiplies lr:

    step       $factor^(epoch / every)$          the notes: times 0.1 after every 10 epochs
    cosine     $(1 + cos(π·t)) / 2$              t runs from 0 to 1
    warm-up    $step / warmup$                   from 0 up to lr, while statistics and momentum settle
    one cycle  up, then down to nothing          a large lr in the middle (Smith & Topin 2017, arXiv:1708.07120)

The quotient of the first is rounded down. Below, SGD with noisy gradients goes down $½·w²$, four times
from the same start with the same noise.

Question: The notes' dog breeds drop the rate from 0.03 to 0.003 after 10 of 20 epochs; their CIFAR-10 keeps 0.1 for
all twenty. What does that cost?
Answer: The last digits: a constant rate ends as noisy as it was after a few epochs, so which epoch is best is
partly luck (lesson `best_epoch`). With a schedule the last epochs are the best.

Question: Per epoch or per step?
Answer: Either; the notes' is per epoch. Per step is smoother, and does not depend on how many images an epoch has.

On real data: curves of schedules, then the same training without one and with one.

    cnnlab inspect schedule=step,cosine,one_cycle epochs=20 --plot
    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.05 optimizer.momentum=0.9
    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.05 optimizer.momentum=0.9 schedule=cosine
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import LINES, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Positive, Whole


def constant(step: int, steps: int) -> float:
    return 1.0


def step_down(step: int, steps: int, factor: float = 0.1) -> float:
    """The notes' schedule: once, at half of the way (20 epochs, times 0.1 after 10)."""
    return factor ** (step // (steps // 2))


def cosine(step: int, steps: int) -> float:
    return (1 + math.cos(math.pi * step / steps)) / 2


def one_cycle(step: int, steps: int, peak: float = 0.3, start: float = 0.04) -> float:
    """Up from `start` in the first 30 % of the steps, then down to 0, each along half a cosine."""
    if step < peak * steps:
        return start + (1 - start) * (1 - math.cos(math.pi * step / (peak * steps))) / 2
    return (1 + math.cos(math.pi * (step - peak * steps) / (steps - peak * steps))) / 2


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": constant,
    "step": step_down,
    "cosine": cosine,
    "one cycle": one_cycle,
}


def descend(schedule: Callable[[int, int], float], lr: float, steps: int, seed: int) -> list[float]:
    """The mean of ½·w² over 200 weights, each going down with noise of its own in its gradient."""
    with seeded(seed):
        noise = torch.randn(steps, 200)
    w = torch.full((200,), 10.0)
    losses = []
    for step in range(steps):
        w = w - lr * schedule(step, steps) * (w + noise[step])
        losses.append(w.square().mean().item() / 2)
    return losses


def compute(*, lr: Positive = 0.2, epochs: Count = 20, seed: Whole = 0) -> Values:
    steps = 10 * epochs  # ten batches an epoch
    factors = {name: [schedule(step, steps) for step in range(steps)] for name, schedule in SCHEDULES.items()}
    losses = {name: descend(schedule, lr, steps, seed) for name, schedule in SCHEDULES.items()}
    return {"factors": factors, "losses": losses, "lr": lr, "floor": lr / (2 * (2 - lr))}


def show(values: Values) -> Parts:
    steps = len(values["factors"]["constant"])
    chosen = [0, steps // 4, steps // 2, 3 * steps // 4, steps - 1]
    return [
        Table(
            ["factor of lr at step", *(str(step) for step in chosen)],
            [[name, *(factors[step] for step in chosen)] for name, factors in values["factors"].items()],
        ),
        Table(
            ["loss after step", *(str(step) for step in chosen[1:])],
            [[name, *(losses[step] for step in chosen[1:])] for name, losses in values["losses"].items()],
        ),
        f"With the constant rate the loss cannot get below $lr / (2·(2 − lr)) = {values['floor']:.3f}$ on average: "
        "that is the noise that each step puts in.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    for style, (name, factors) in zip(LINES, values["factors"].items(), strict=True):
        left.plot(factors, style, label=name)
        right.semilogy(values["losses"][name], style, label=name)
    left.set(xlabel="step", ylabel="factor of lr")
    right.set(xlabel="step", ylabel="loss")
    left.legend(fontsize=7)


EXERCISES = [
    Exercise(
        "lr 0.03, times 0.1 after every 10 epochs: the rate in epoch 25, counted from 0?",
        lambda: 0.03 * 0.1 ** (25 // 10),
        "How often has it been multiplied by then?",
    ),
    Exercise(
        "Cosine, a quarter of the way: the factor?",
        lambda: cosine(25, 100),
        "(1 + cos(π/4)) / 2.",
        slips={0.75: "A cosine falls slowly at first."},
    ),
    Exercise(
        "The constant rate of this lesson halved to 0.1: its floor?",
        lambda: compute(lr=0.1)["floor"],
        "lr / (2·(2 − lr)).",
    ),
]
