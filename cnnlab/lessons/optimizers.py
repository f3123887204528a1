"""Ten optimizers on one small problem.

Stands on: adam, regression.

The problem is the line through the notes' seventeen points: two parameters, a loss that is a long
narrow bowl, because slope and intercept can trade off against each other. All start at w = b = 0 and
take a hundred steps. The table counts what is left above the loss of the best line.

    SGD, ASGD                        one step size for all
    Adagrad, RMSprop, Adadelta       divide by the size of past gradients
    Adam, Adamax, SparseAdam         the same with momentum
    Rprop                            looks at signs only, and adapts each step
    LBFGS                            estimates the curvature, and jumps

Each has a learning rate that suits it here; the lr stands in the table. All ten are used alike, as black
boxes: `optimizer.zero_grad()`, backward, `optimizer.step()`. In the picture each curve stands out once,
before the other nine; Adam's and SparseAdam's are one and the same.

Question: LBFGS wins. Why is it not used for networks?
Answer: It needs exact gradients and several passes for one step. Here a pass is over seventeen points.
In training a network each step sees another small batch, gradients are noisy, and an estimate of
curvature from noise misleads. SGD and Adam bear noise well. (SparseAdam is Adam for gradients that are
mostly zero, as of an embedding; given a full one it does what Adam does.)

On real data: Adam, and SGD beside it.

    cnnlab train dataset=digits optimizer=adam
    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.05 optimizer.momentum=0.9
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import highlight_each
from cnnlab.lessons.regression import X, Y, least_squares
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count

LEARNING_RATES = {
    "SGD": 0.02,
    "ASGD": 0.02,
    "Adagrad": 0.5,
    "RMSprop": 0.01,
    "Adadelta": 5.0,
    "Adam": 0.1,
    "Adamax": 0.1,
    "SparseAdam": 0.1,
    "Rprop": 0.01,
    "LBFGS": 1.0,
}


def fit(name: str, steps: int) -> list[float]:
    """The loss after 0, 1, ..., `steps` steps of the torch optimizer of that name."""
    w = torch.zeros(2, requires_grad=True)  # slope, intercept
    optimizer = getattr(torch.optim, name)([w], lr=LEARNING_RATES[name])

    def loss_and_gradient() -> Tensor:
        optimizer.zero_grad()
        loss = ((w[0] * X + w[1] - Y) ** 2).mean()
        loss.backward()
        if name == "SparseAdam":
            w.grad = w.grad.to_sparse()
        losses.append(loss.item())
        return loss

    history = []
    for _ in range(steps + 1):
        losses: list[float] = []
        optimizer.step(loss_and_gradient)
        history.append(losses[0])  # LBFGS looks more than once a step; the first look is where it stands
    return history


def compute(*, steps: Count = 100) -> Values:
    return {"losses": {name: fit(name, steps) for name in LEARNING_RATES}, "least": least_squares(X, Y)[2]}


def show(values: Values) -> Parts:
    losses, least = values["losses"], values["least"]
    steps = len(losses["SGD"]) - 1
    chosen = sorted({min(step, steps) for step in (1, 10, 100, steps)})
    rows = [
        [name, LEARNING_RATES[name], *(max(0.0, history[step] - least) for step in chosen)]
        for name, history in losses.items()
    ]
    return [
        f"The best line has a loss of {least:.4f}; what is left above that:",
        Table(["optimizer", "lr", *(f"after {step}" for step in chosen)], rows),
    ]


def draw(values: Values, figure: Figure) -> None:
    curves = {
        name: (range(len(history)), [max(loss - values["least"], 1e-7) for loss in history])
        for name, history in values["losses"].items()
    }
    highlight_each(figure, curves, in_a_row=5, yscale="log")


def _largest_curvature() -> float:
    design = torch.stack([X, torch.ones_like(X)], dim=1)
    return torch.linalg.eigvalsh(2 * design.T @ design / len(X)).max().item()


EXERCISES = [
    Exercise(
        "SGD with lr 0.03 in place of 0.02: does it still find the line? (yes or no)",
        lambda: "yes" if 2 / _largest_curvature() > 0.03 else "no",
        "Lesson regression: above 2 / (the largest curvature) the loss grows.",
    ),
    Exercise(
        "How many numbers does SGD with momentum keep for each weight besides the weight and its gradient?",
        lambda: 1,
        "Lesson momentum: the velocity.",
    ),
    Exercise(
        "And Adam?",
        lambda: 2,
        "Lesson adam: an average of g and one of g².",
    ),
]
