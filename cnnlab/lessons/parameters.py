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
from cnnlab.lessons.pictures import COLORS, NARROW
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


def walk(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter below a module with its path, parents before children."""
    for name, parameter in module.named_parameters(recurse=False):
        yield path + name, parameter
    for name, child in module.named_children():
        yield from walk(child, f"{path}{name}.")


def build_net(stages: int) -> nn.Sequential:
    tower = nn.Sequential(*[stage(4) for _ in range(stages)])
    return nn.Sequential(tower, nn.Linear(4, 1))


def stage(features: int) -> nn.Module:
    """A block from a function, to be used several times, each time with weights of its own."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU())


def compute(*, stages: Count = 2) -> Values:
    with seeded(0):
        net = build_net(stages)
        x = torch.randn(2, 4)
    bias = net[1].bias
    before = bias.grad
    net(x).sum().backward()
    return {
        "found": [(name, tuple(p.shape), p.grad.norm().item()) for name, p in walk(net)],
        "torch_finds": [name for name, _ in net.named_parameters()],
        "state": list(net.state_dict()),
        "stages": stages,
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


def draw(values: Values, figure: Figure) -> None:
    """The tree of modules: each below the one that holds it, a branch marked with its name, paths at the leaves."""
    lines: list[tuple[int, str, str]] = []  # depth, what stands there, its colour

    def visit(module: nn.Module, path: str, depth: int) -> None:
        lines.append((depth, f"{path or 'net'}   {type(module).__name__}", "black"))
        lines.extend((depth + 1, f"{path}.{name}", COLORS[1]) for name, _ in module.named_parameters(recurse=False))
        for name, child in module.named_children():
            visit(child, f"{path}.{name}".lstrip("."), depth + 1)

    visit(build_net(values["stages"]), "", 0)
    figure.set_figheight(0.24 * len(lines) + 0.2)
    axes = figure.subplots()
    parents: list[int] = []  # the line of the last module at each depth
    for row, (depth, text, color) in enumerate(lines):
        parents = [*parents[:depth], row]
        axes.text(depth, row, text, color=color, va="center", fontsize=8.5)
        if depth:
            corner = depth - 0.75
            axes.plot(
                [corner, corner, depth - 0.15], [parents[depth - 1] + 0.4, row, row], color="#999999", linewidth=0.8
            )
    axes.set(xlim=(-0.1, 7 if figure.get_figwidth() > NARROW else 5), ylim=(len(lines) - 0.4, -0.6))
    axes.set_axis_off()


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
