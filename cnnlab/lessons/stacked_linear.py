"""Stacked linear layers are one linear layer, until something bends between them.

Stands on: regression_linear.

Multiply by 3, then by 2: that is multiplying by 6. With matrices it is no different:

    $W₂(W₁x + b₁) + b₂ = (W₂W₁)x + (W₂b₁ + b₂)$

Ten linear layers can express no more than one; if a middle one is narrow, even less. What makes depth
worth anything is a function between the layers that is not linear. The simplest bends once, at zero:
$relu(x) = max(0, x)$.

Question: How can one tell from outside that a network is linear?
Answer: A linear map (with bias) keeps midpoints: the output halfway between two inputs is halfway
between the outputs. The table's last column measures by how much a stack misses that.

On real data: two linear layers, and the same with a ReLU between; about 95 and 98 % of the test digits.

    cnnlab train model=stacked_linear dataset=digits
    cnnlab train model=mlp dataset=digits
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def merge(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """The one layer that does what `first` and then `second` do."""
    merged = nn.Linear(first.in_features, second.out_features)
    with torch.no_grad():
        merged.weight.copy_(second.weight @ first.weight)
        merged.bias.copy_(second.weight @ first.bias + second.bias)
    return merged


def midpoint_error(net: nn.Module, a: torch.Tensor, b: torch.Tensor) -> float:
    """How far the output at the midpoint of a and b is from the midpoint of the outputs."""
    return (net((a + b) / 2) - (net(a) + net(b)) / 2).abs().max().item()


def compute(*, inputs: Count = 10, hidden: Count = 5, outputs: Count = 2, seed: Whole = 0) -> Values:
    with seeded(seed):
        first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        a, b = torch.randn(4, inputs), torch.randn(4, inputs)
        merged = merge(first, second)
        three, two = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    stacked = nn.Sequential(first, second)
    bent = nn.Sequential(first, nn.ReLU(), second)
    nn.init.constant_(three.weight, 3.0)
    nn.init.constant_(two.weight, 2.0)
    return {
        "six": two(three(torch.ones(1))).item(),
        "stacked": stacked(a).detach(),
        "merged": merged(a).detach(),
        "bent": bent(a).detach(),
        "midpoint_errors": {
            "two linear layers": midpoint_error(stacked, a, b),
            "the one that replaces them": midpoint_error(merged, a, b),
            "with a ReLU between": midpoint_error(bent, a, b),
        },
    }


def show(values: Values) -> Parts:
    return [
        f"1, times 3, times 2: {values['six']:g}.",
        {
            "two linear layers": values["stacked"],
            "one": values["merged"],
            "with a ReLU between": values["bent"],
        },
        Table(
            ["network", "missed midpoint"],
            [[name, error] for name, error in values["midpoint_errors"].items()],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    with seeded(35):
        first, second = nn.Linear(1, 8), nn.Linear(8, 1)
    x = torch.linspace(-3, 3, 121)[:, None]
    axes = figure.subplots()
    for name, net in (
        ("two linear layers", nn.Sequential(first, second)),
        ("with a ReLU between", nn.Sequential(first, nn.ReLU(), second)),
    ):
        axes.plot(x[:, 0].numpy(), net(x).detach()[:, 0].numpy(), label=name)
    axes.set(xlabel="input", ylabel="output")
    axes.legend()


EXERCISES = [
    Exercise(
        "Linear(10, 5), then Linear(5, 2): which shape has the weight of the one layer that replaces them?",
        lambda: tuple((nn.Linear(5, 2).weight @ nn.Linear(10, 5).weight).shape),
        "(outputs, inputs), of the whole.",
        slips={(10, 2): "The outputs stand first."},
    ),
    Exercise(
        "How many parameters are saved by it, biases counted? (67 in the two)",
        lambda: (
            sum(p.numel() for p in [*nn.Linear(10, 5).parameters(), *nn.Linear(5, 2).parameters()])
            - sum(p.numel() for p in nn.Linear(10, 2).parameters())
        ),
        "What has Linear(10, 2)?",
        slips={22: "That is what the one layer has."},
    ),
    Exercise(
        "f(0) = 0 and f(4) = 8 for a linear f with bias. What is f(2)?",
        lambda: 4,
        "A linear map keeps midpoints.",
    ),
]
