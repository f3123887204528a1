"""Vanishing gradients, and the shortcut that keeps them alive.

Stands on: activations, block.

The gradient of an early layer is a product with one factor for each layer after it. If the factors are
below 1, twenty of them leave nothing: the first layers of a deep plain network do not learn. A residual
block computes $x + f(x)$, whose derivative is

    $1 + f′(x)$

so its factor stays near 1 even where $f′$ is almost 0. Here two stacks have the very same blocks and
weights; only one of them adds x. We send the same images through both, take the gradient of the same
loss, and measure its size (its Euclidean norm) at each block's first weight.

Question: Then why do deep plain networks train at all today?
Answer: Because a careful start (He et al. 2015, arXiv:1502.01852) and batch normalisation also keep the
factors near 1. But those hold on average and at the beginning; the shortcut is a path that no weight
can close. Gradients are not the whole story, either: He et al. (arXiv:1512.03385) saw a plain network
of 34 layers do worse than one of 18 on its own training data, with batch normalisation and gradients in
good health.

Question: The notes say that addition makes small gradients "close to 1". Exactly?
Answer: It adds 1 to each factor's small part: a product of $1 + f′$ stays alive where a product of $f′$ does
not. The factors are matrices, and not near 1 by themselves; with large $f′$ they can also grow too large.

On real data: a network of nine residual blocks on digits.

    cnnlab train dataset=digits model=resnet20 epochs=3
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.exercises import Exercise
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
    axes.locator_params(axis="x", integer=True)
    axes.legend()


EXERCISES = [
    Exercise(
        "f′ = 0.1 in each of ten layers. By which factor does a plain stack multiply the gradient?",
        lambda: 0.1**10,
        "One factor for each layer.",
    ),
    Exercise(
        "And a residual stack?",
        lambda: 1.1**10,
        "1 + f′ in each.",
    ),
    Exercise(
        "With depth=5: is the plain stack's first gradient still below a thousandth of its last? (yes or no)",
        lambda: "yes" if gradient_norms(5, False, 0)[0] < 1e-3 * gradient_norms(5, False, 0)[-1] else "no",
        "Run it: cnnlab lesson vanishing depth=5.",
    ),
]
