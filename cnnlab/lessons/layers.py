"""Layers of your own: one without parameters, one with.

Stands on: regression_linear.

A layer without parameters is a function with a name; here one that subtracts the mean. A layer with
parameters declares them as `nn.Parameter`, and that word is all it takes: the optimizer finds them,
`to` moves them, `state_dict` saves them.

    $y = x · Wᵀ + b$        W has the shape (outputs, inputs), b the shape (outputs,)

Our own Linear is torch's, number for number: same start, same output, same gradients.

Question: Why W with the outputs first, and then transposed?
Answer: Each row of W is one output's weights, so W reads like a list of neurons; and a convolution's
weight, (C_out, C_in, k, k), has the same order.

On real data: a network of one such layer on images of digits.

    cnnlab train model=linear dataset=digits
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Values
from cnnlab.signature import Count, Whole


class Centered(nn.Module):
    """x − mean(x), over the whole batch; no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean()


class Linear(nn.Module):
    """x · Wᵀ + b: (N, inputs) → (N, outputs). Starts uniform between ±1/√inputs, as torch's."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


def compute(*, inputs: Count = 5, outputs: Count = 3, seed: Whole = 0) -> Values:
    with seeded(seed):
        x = torch.randn(2, inputs)
    with seeded(seed):
        own = Linear(inputs, outputs)
    with seeded(seed):
        theirs = nn.Linear(inputs, outputs)
    numbers = torch.arange(1.0, 6)
    return {
        "numbers": numbers,
        "centered": Centered()(numbers),
        "mean_of_output": Centered()(own(x)).mean().item(),
        "weight": own.weight.detach(),
        "own": own(x).detach(),
        "theirs": theirs(x).detach(),
    }


def show(values: Values) -> Parts:
    return [
        {"input": values["numbers"], "centered": values["centered"]},
        f"After a Linear, Centered leaves a mean of {values['mean_of_output']:.0e}: zero, but for rounding.",
        {"own Linear": values["own"], "nn.Linear": values["theirs"], "their weight": values["weight"]},
    ]


EXERCISES = [
    Exercise(
        "Centered()(torch.tensor([2., 4., 9.])): the three numbers?",
        lambda: tuple(Centered()(torch.tensor([2.0, 4.0, 9.0])).tolist()),
        "Their mean is taken off each.",
    ),
    Exercise(
        "A Linear of 5 inputs and 3 outputs: which shape has its weight?",
        lambda: tuple(Linear(5, 3).weight.shape),
        "A row for each output.",
        slips={(5, 3): "The outputs stand first."},
    ),
    Exercise(
        "A layer keeps `self.scale = torch.ones(1)`, no nn.Parameter. Does an optimizer ever change it? (yes or no)",
        lambda: "no",
        "What makes parameters() find a tensor?",
    ),
]
