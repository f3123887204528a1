"""Initialisation: where the search starts.

Stands on: parameters, activations.

torch starts a linear layer's weights uniformly between $±1/√fan_in$, where fan_in is the number of inputs
and fan_out that of outputs. Others are one line each:
`net.apply(f)` calls f with every module, and f sets what it wants to, in place.

    normal     mean 0, standard deviation 0.01
    constant   every weight 1
    xavier     uniform, with the variance $2 / (fan_in + fan_out)$; Glorot & Bengio 2010
    own        random signs: each weight is $1/√fan_in$ or $−1/√fan_in$

A good start keeps the size of signals from layer to layer. And it must break the symmetry.

Question: What is wrong with all weights equal?
Answer: All hidden units then compute the same, get the same gradient, and stay the same for ever: a
layer of eight units that is worth one. Count the distinct rows in the table; random starts give eight.

On real data: LeNet with Xavier's start has 64 % of the validation images right after its first epoch. With
`model.init=null` it starts as torch does, and guesses for two epochs.

    cnnlab train experiment=lenet_fashion model.init=xavier
    cnnlab train experiment=lenet_fashion model.init=null
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def normal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)


def constant(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 1.0)


def xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)


def own(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        signs = torch.randint(0, 2, module.weight.shape) * 2.0 - 1
        with torch.no_grad():
            module.weight.copy_(signs / module.in_features**0.5)


STARTS: dict[str, Callable[[nn.Module], None]] = {
    "torch": lambda module: None,
    "normal": normal,
    "constant": constant,
    "xavier": xavier,
    "own": own,
}


def compute(*, features: Count = 64, hidden: Count = 8, seed: Whole = 0) -> Values:
    rows, weights = [], {}
    for name, start in STARTS.items():
        with seeded(seed):
            net = nn.Sequential(nn.Linear(features, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, 1))
            x = torch.randn(32, features)
            net.apply(start)
        net(x).square().mean().backward()
        weight, gradient = net[0].weight.detach(), net[0].weight.grad
        distinct = len(torch.unique(gradient, dim=0))
        weights[name] = weight
        rows.append([name, weight.mean().item(), weight.std().item(), distinct])
    return {"rows": rows, "weights": weights}


def show(values: Values) -> Parts:
    return [Table(["start", "mean of weights", "standard deviation", "distinct gradient rows"], values["rows"])]


def draw(values: Values, figure: Figure) -> None:
    weights = values["weights"]
    axes_of_each = panels(figure, len(weights), in_a_row=5, narrow=2, height=1.6)
    for axes, (name, weight) in zip(axes_of_each, weights.items(), strict=True):
        axes.hist(weight.flatten().numpy(), bins=20, range=(-0.35, 0.35) if name != "constant" else (0, 2))
        axes.set(title=name, yticks=[])


EXERCISES = [
    Exercise(
        "Xavier's start for 64 inputs and 8 outputs: the standard deviation of the weights?",
        lambda: (2 / (64 + 8)) ** 0.5,
        "The root of the variance 2 / (fan_in + fan_out).",
        slips={2 / 72: "That is the variance."},
    ),
    Exercise(
        "The start called own, with 100 inputs: the standard deviation of the weights?",
        lambda: 100**-0.5,
        "Every weight is +1/√fan_in or −1/√fan_in.",
    ),
    Exercise(
        "torch's start for 25 inputs: between plus and minus what?",
        lambda: 25**-0.5,
        "1/√fan_in.",
    ),
]
