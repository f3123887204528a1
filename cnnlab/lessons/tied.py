"""Tied layers: one tensor at two layers, and its gradients add.

Stands on: parameters, conv.

Put the same layer object into a network twice and both layers share one weight: not two equal tensors
but one. Change it here and it has changed there. In the backward pass each use contributes its
gradient, and they add up, because the derivative with respect to a quantity that is used twice is the
sum over its uses:

    $dL/dw = ∂L/∂w₁ + ∂L/∂w₂$        for a loss $L(w₁, w₂)$ at $w₁ = w₂ = w$

To see it, we run a second network whose two layers start equal and are *not* tied: the tied gradient is
the sum of its two.

Question: Is a convolution a tied layer?
Answer: Yes, the best-known one. One kernel stands at every position of the image, and its gradient is
the sum over all positions. Sharing is why a 5×5 layer has 25 weights and not millions.

On real data: LeNet's convolutions have 2,572 parameters, thanks to sharing, and 357,600
multiply-adds: each weight is used at many positions.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Values
from cnnlab.signature import Count


def compute(*, features: Count = 3) -> Values:
    with seeded(0):
        shared = nn.Linear(features, features, bias=False)
        x = torch.randn(4, features)
    tied = nn.Sequential(shared, nn.Tanh(), shared)
    apart = nn.Sequential(copy.deepcopy(shared), nn.Tanh(), copy.deepcopy(shared))
    for net in (tied, apart):
        net(x).square().sum().backward()

    gradients = {
        "tied": shared.weight.grad.clone(),
        "first": apart[0].weight.grad.clone(),
        "second": apart[2].weight.grad.clone(),
    }
    with torch.no_grad():
        tied[0].weight[0, 0] = 100
    return {
        **gradients,
        "same_tensor": tied[0].weight is tied[2].weight,
        "seen_in_the_other": tied[2].weight[0, 0].item(),
        "count_tied": sum(p.numel() for p in tied.parameters()),
        "count_apart": sum(p.numel() for p in apart.parameters()),
    }


def show(values: Values) -> Parts:
    return [
        {name: values[name] for name in ("first", "second")},
        {"gradient of the tied weight": values["tied"], "sum of the two": values["first"] + values["second"]},
        f"Parameters: {values['count_tied']} tied, {values['count_apart']} apart. The first layer's corner "
        f"set to 100 reads {values['seen_in_the_other']:g} in the second.",
    ]


def _slope_of_two_uses() -> float:
    w = torch.tensor(3.0, requires_grad=True)
    (w * w * 2).backward()
    return w.grad.item()


EXERCISES = [
    Exercise(
        "y = w·w·x, one weight used twice, at w = 3 and x = 2. What is dy/dw?",
        _slope_of_two_uses,
        "Each use contributes w·x; they add.",
        slips={6: "That is one use of the two."},
    ),
    Exercise(
        "A 5×5 kernel slides to 24·24 positions. Of how many terms is the gradient of each of its weights the sum?",
        lambda: 24 * 24,
        "One for each use.",
    ),
    Exercise(
        "Two Linear(5, 5) with biases, tied: how many parameters does the optimizer get?",
        lambda: sum(p.numel() for p in nn.Linear(5, 5).parameters()),
        "The two are one layer.",
        slips={60: "That is two of them, apart.", 25: "And the biases."},
    ),
]
