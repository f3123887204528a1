"""Reaching parameters: one, all of them, and those of nested blocks.

Stands on: sequential.

A parameter is a tensor that a module has claimed as its own, together with the gradient that the last
backward pass left there. Because modules hold modules, parameters form a tree, and a parameter's name
is the path to it:

    `net[0].weight`            the object
    `net[0].weight.grad`       its gradient; None before the first backward pass
    `net.named_parameters()`   all of them, with their paths
    `net.state_dict()`         the same paths → values, for saving

To collect them, one function calls itself for each child. It is written out in this lesson's code, and
finds what `named_parameters` finds.

Question: How do I freeze a part of a network?
Answer: `net[0].requires_grad_(False)`: it walks the same tree and marks each parameter below. The
optimizer is then given those that still require a gradient, and no others (lesson `fine_tuning`).

On real data: every layer with its path and its parameters.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Count


def walk(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter below a module with its path, parents before children."""
    for name, parameter in module.named_parameters(recurse=False):
        yield path + name, parameter
    for name, child in module.named_children():
        yield from walk(child, f"{path}{name}.")


def stage(features: int) -> nn.Module:
    """A block from a function, to be used several times, each time with weights of its own."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU())


def compute(*, stages: Count = 2) -> Values:
    with seeded(0):
        tower = nn.Sequential(*[stage(4) for _ in range(stages)])
        net = nn.Sequential(tower, nn.Linear(4, 1))
        x = torch.randn(2, 4)
    bias = net[1].bias
    before = bias.grad
    net(x).sum().backward()
    return {
        "found": [(name, tuple(p.shape), p.grad.norm().item()) for name, p in walk(net)],
        "torch_finds": [name for name, _ in net.named_parameters()],
        "state": list(net.state_dict()),
        "bias": bias.item(),
        "bias_gradient_before": before,
        "bias_gradient_after": bias.grad.item(),
    }


def show(values: Values) -> Parts:
    return [
        f"One parameter: net[1].bias is {values['bias']:.4f}. Its gradient was "
        f"{values['bias_gradient_before']}, and is {values['bias_gradient_after']:g} after the backward pass "
        "of a sum over two rows.",
        Table(
            ["path", "shape", "gradient norm"],
            [[name, str(shape), norm] for name, shape, norm in values["found"]],
        ),
    ]


def _bias_gradient(images: int) -> float:
    layer = nn.Linear(4, 1)
    layer(torch.zeros(images, 4)).sum().backward()
    return layer.bias.grad.item()


EXERCISES = [
    Exercise(
        "What is the path of the weight of net[0][1][0], in a net of nested Sequentials?",
        lambda: "0.1.0.weight",
        "The way down, with points between.",
    ),
    Exercise(
        "The loss is the sum of the outputs of five images. What is the gradient of the last layer's bias?",
        lambda: _bias_gradient(5),
        "The bias enters each of the five outputs once.",
    ),
    Exercise(
        "A net has 4 stages and a last layer, each with weight and bias: how many entries has state_dict()?",
        lambda: len(compute(stages=4)["state"]),
        "A ReLU has no parameters.",
    ),
]
