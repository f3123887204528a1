"""A residual block, and why its network's linear layer has 512 inputs, or 1568.

Stands on: vanishing, block.

A block of two 3×3 convolutions learns only what is to be *added* to its input:

    $output = relu(x + conv(relu(conv(x))))$

If nothing has to be changed, it learns zeros, which is easy; a plain block would have to learn to copy.
The sum needs both terms in the same shape, so the convolutions keep channels, rows and columns (He,
Zhang, Ren & Sun 2015, arXiv:1512.03385; there with batch normalisation, here without).

The notes build a digit network of two such blocks and leave a riddle: their linear layer has 512
inputs, and its author cannot derive it. Follow the shapes.

Question: So where does 512 come from?
Answer: From padding 0: 28 → 24 → 12 → 8 → 4, and 32 maps of 4×4 are 512 numbers. The program as printed
says padding=2, with which only the poolings shrink the image: 28 → 14 → 7, and 32·7·7 = 1568 numbers
arrive at a layer that expects 512, and torch refuses. Derived, not guessed: send one image through and
read the shape.

On real data: both variants. The second stops at its linear layer, and cnnlab says why.

    cnnlab inspect model=residual_net dataset=mnist
    cnnlab inspect model=residual_net model.padding=2 model.in_features=512 dataset=mnist
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.diagrams import draw_network
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


class ResidualBlock(nn.Module):
    """relu(x + two 3×3 convolutions of x); (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change = self.second(self.first(x).relu())
        return (x + change).relu()


def trace(padding: int, size: int) -> list[tuple[str, tuple[int, ...]]]:
    """Each step of the network before its linear layer, with the shape after it."""
    steps = {
        "conv 5×5 to 16": nn.Conv2d(1, 16, kernel_size=5, padding=padding),
        "pool": nn.MaxPool2d(2),
        "residual block 16": ResidualBlock(16),
        "conv 5×5 to 32": nn.Conv2d(16, 32, kernel_size=5, padding=padding),
        "pool ": nn.MaxPool2d(2),
        "residual block 32": ResidualBlock(32),
        "flatten": nn.Flatten(),
    }
    x = torch.zeros(1, 1, size, size)
    shapes = [("image", tuple(x.shape[1:]))]
    with torch.no_grad():
        for name, step in steps.items():
            x = step(x)
            shapes.append((name, tuple(x.shape[1:])))
    return shapes


def compute(*, size: Count = 28) -> Values:
    with seeded(0):
        return {"padding 0": trace(0, size), "padding 2": trace(2, size)}


def show(values: Values) -> Parts:
    rows = [
        [name, without, with_two]
        for (name, without), (_, with_two) in zip(values["padding 0"], values["padding 2"], strict=True)
    ]
    (_, (small,)), (_, (large,)) = values["padding 0"][-1], values["padding 2"][-1]
    return [
        Table(["after", "padding=0", "padding=2"], rows),
        f"The linear layer needs {small} inputs without padding and {large} with padding=2.",
    ]


def draw(values: Values, figure: Figure) -> None:
    draw_network(figure, ResidualBlock(16), torch.zeros(1, 16, 12, 12))


EXERCISES = [
    Exercise(
        "On 32×32 images with padding 0: how many inputs does the linear layer need?",
        lambda: compute(size=32)["padding 0"][-1][1][0],
        "32 → 28 → 14 → 10 → 5, and 32 maps.",
    ),
    Exercise(
        "A residual block of 16 channels: how many parameters?",
        lambda: sum(p.numel() for p in ResidualBlock(16).parameters()),
        "Two layers of 16 kernels, 16·3·3 weights and a bias each.",
        slips={4608: "That is without the biases.", 2320: "There are two layers."},
    ),
    Exercise(
        "All weights and biases of a block are 0, and x = (−1, 2). What comes out? Both numbers.",
        lambda: (0.0, 2.0),
        "relu(x + 0).",
        slips={(-1.0, 2.0): "The relu after the sum."},
    ),
]
