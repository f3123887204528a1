"""Losses: what a mistake costs.

Stands on: problems.

A loss turns all predictions and all targets into one number, so that there is something to minimise.

    L1                     mean of $|p − t|$
    MSE                    mean of $(p − t)²$
    binary cross-entropy   mean of $−(t·log p + (1 − t)·log(1 − p))$

In the third p is the probability of "yes", and t is 1 for yes and 0 for no.

They differ in how they treat large errors. L1's slope is ±1 however far off a prediction is; MSE's
grows with the error, so a single wild point drags the fit. Cross-entropy punishes confidence in what is
not true without limit: 0.1 for what is true costs 2.3, 0.01 costs 4.6.

Question: If I may predict just one number for 1, 2, 3, 4, 100, which does each loss choose?
Answer: MSE the mean, 22; L1 the median, 3, which does not care how wild the 100 is. In the table each
has the lower number in its own column.

Question: The notes' own cross-entropy stops at `log`: the name is not defined.
Answer: `log` has to come from somewhere: `from math import log` for one number, `torch.log` or `x.log()`
for a tensor whose gradient is wanted. Only torch's can be differentiated.

On real data: cross-entropy for classes, squared error for numbers; each is printed for every epoch.

    cnnlab train dataset=digits
    cnnlab train experiment=linear_regression loss=l1 optimizer.lr=0.02
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.errors import ConfigError
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.view import Figure, Parts, Table, Values


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs().mean()


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def binary_cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """`target` is 1 for yes and 0 for no."""
    return -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()


def compute(*, targets: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 100.0)) -> Values:
    if not targets:
        raise ConfigError("targets: [] was given; expected at least one number")
    target = torch.tensor(targets, dtype=torch.float32)
    rows = []
    for name, guess in (("median", target.median()), ("mean", target.mean())):
        rows.append([name, guess.item(), l1(guess, target).item(), mse(guess, target).item()])
    probabilities = torch.tensor([0.99, 0.9, 0.5, 0.1, 0.01])
    yes = torch.ones(1)
    costs = torch.stack([binary_cross_entropy(p[None], yes) for p in probabilities])
    return {"rows": rows, "probabilities": probabilities, "costs": costs}


def show(values: Values) -> Parts:
    return [
        Table(["predict for all the", "which is", "L1", "MSE"], values["rows"]),
        {"probability given to what is true": values["probabilities"], "its cross-entropy": values["costs"]},
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    error = torch.linspace(-2, 2, 201).numpy()
    left.plot(error, abs(error), label="L1")
    left.plot(error, error**2, label="MSE")
    left.set(xlabel="error")
    left.legend()
    p = torch.linspace(0.005, 0.995, 199)
    right.plot(p.numpy(), -p.log().numpy(), label="truth: yes")
    right.plot(p.numpy(), -(1 - p).log().numpy(), label="truth: no")
    right.set(xlabel="predicted probability of yes", ylabel="cross-entropy")
    right.legend()


EXERCISES = [
    Exercise(
        "The truth was given the probability 0.25. Its cross-entropy?",
        lambda: binary_cross_entropy(torch.tensor([0.25]), torch.ones(1)).item(),
        "−log 0.25, the natural logarithm.",
        slips={2: "That is the logarithm to base 2."},
    ),
    Exercise(
        "One number is to be predicted for 0, 0 and 9. Which one has the smallest MSE?",
        lambda: torch.tensor([0.0, 0.0, 9.0]).mean().item(),
        "MSE chooses the mean.",
        slips={0: "That is what L1 chooses."},
    ),
    Exercise(
        "An error of 10 in place of 1: by which factor does its share of the MSE grow?",
        lambda: (mse(torch.tensor([10.0]), torch.zeros(1)) / mse(torch.ones(1), torch.zeros(1))).item(),
        "It is squared.",
    ),
]
