"""Vanishing gradients, and the shortcut that keeps them alive.

The gradient of an early layer is a product with one factor for each layer behind it. If the factors are
below 1, twenty of them leave nothing: the first layers of a deep plain network do not learn. A residual
block computes x + f(x), whose derivative is

    1 + f′(x)

so its factor stays near 1 even where f′ is almost 0. Here two stacks have the very same blocks and
weights; only one of them adds x. We send the same images through both, take the gradient of the same
loss, and measure its size (its Euclidean norm) at each block's first weight.

Question: Then why do deep plain networks train at all today?
Answer: Because a careful start (He et al. 2015, arXiv:1502.01852) and batch normalisation also keep the
factors near 1. But those hold on average and at the beginning; the shortcut is a path that no weight
can close. Gradients are not the whole story, either: He et al. (arXiv:1512.03385) saw a plain network
of 34 layers do worse than one of 18 on its own training data, with batch normalisation and gradients in
good health.

On real data: a network of eight residual blocks, and its parameters.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


class Block(nn.Module):
    """Two 3×3 convolutions, with the shortcut or without."""

    def __init__(self, channels: int, shortcut: bool):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        change = self.second(self.first(x).relu())
        return (x + change if self.shortcut else change).relu()


def gradient_norms(depth: int, shortcut: bool, seed: int) -> list[float]:
    """The norm of the loss's gradient at the first weight of each block, from input to output."""
    with seeded(seed):  # the same weights and images for both stacks
        blocks = nn.Sequential(*[Block(8, shortcut) for _ in range(depth)])
        images = torch.randn(16, 8, 8, 8)
        target = torch.randn(16, 8, 8, 8)
    ((blocks(images) - target) ** 2).mean().backward()
    return [block.first.weight.grad.norm().item() for block in blocks]


def compute(*, depth: Count = 20, seed: Whole = 0) -> Values:
    return {
        "plain": gradient_norms(depth, shortcut=False, seed=seed),
        "residual": gradient_norms(depth, shortcut=True, seed=seed),
    }


def show(values: Values) -> Parts:
    plain, residual = values["plain"], values["residual"]
    depth = len(plain)
    chosen = sorted({0, depth // 4, depth // 2, 3 * depth // 4, depth - 1})
    return [
        Table(["block", "plain", "residual"], [[i + 1, plain[i], residual[i]] for i in chosen]),
        f"From the last block to the first, the plain gradient shrinks to {ratio(plain)} of its size, "
        f"the residual one to {ratio(residual)}.",
    ]


def ratio(norms: list[float]) -> str:
    return f"{norms[0] / norms[-1]:.2g}" if norms[-1] else "nothing"


def draw(values: Values, figure: Figure) -> None:
    axes = figure.subplots()
    blocks = range(1, len(values["plain"]) + 1)
    axes.semilogy(blocks, values["residual"], marker="o", label="residual")
    axes.semilogy(blocks, values["plain"], marker="o", label="plain")
    axes.set(xlabel="block, from the input to the output", ylabel="gradient norm")
    axes.legend()
