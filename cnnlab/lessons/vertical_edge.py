"""A vertical edge, three pixels wide: the kernel that also smooths.

Stands on: edges.

The image is bright (10) on the left and dark (0) on the right. The kernel has a column of ones, one of
zeros and one of minus ones: the sum of three pixels on the left minus the sum of three on the right.
Three rows at once make it steadier than (1, −1): a single noisy pixel weighs a third as much.

Question: Why is the edge two columns wide in an output of four?
Answer: Because the kernel is three wide: it straddles the edge in two positions. In a photograph of a
thousand columns, two are a thin line. The sign tells which way: from bright to dark is positive.

On real data: nearly all learned kernels are 3×3 as well. The column `receptive field` shows it: 3 pixels a side
after the first layer, and each further 3×3 layer adds 2, or 4 once the image has been halved.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, frame, panels
from cnnlab.lessons.view import Figure, Parts, Values


def compute(*, bright: float = 10.0, dark: float = 0.0) -> Values:
    image = torch.full((6, 6), float(dark))
    image[:, :3] = bright
    kernel = torch.tensor([[1.0, 0, -1]] * 3)
    return {"image": image, "kernel": kernel, "edge": corr2d(image, kernel)}


def show(values: Values) -> Parts:
    left, right = values["image"][0, 0].item(), values["image"][0, -1].item()
    height = values["edge"].abs().max().item()
    return [
        {name: values[name] for name in ("image", "kernel", "edge")},
        f"On the edge: 3·{left:g} − 3·{right:g}, which is {height:g} in size. On even ground: 0.",
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = panels(figure, 3)
    for each, name in zip(axes, ("image", "kernel", "edge"), strict=True):
        draw_matrix(each, values[name], name)
    frame(axes[0], 0, 1, 3, 3)  # the window that straddles the edge, and what it gives
    frame(axes[2], 0, 1)


EXERCISES = [
    Exercise(
        "Now the right half is bright (10) and the left half dark (0). What stands on the edge?",
        lambda: compute(bright=0.0, dark=10.0)["edge"][0, 1].item(),
        "Left minus right, three rows of each.",
        slips={30: "The sign tells which way the edge runs."},
    ),
    Exercise(
        "Sobel's kernel is 1 0 −1 / 2 0 −2 / 1 0 −1. What does it give on the edge from 10 to 0?",
        lambda: corr2d(compute()["image"], torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]))[0, 1].item(),
        "Add the weights of its left column: that many times 10.",
    ),
    Exercise(
        "The image is turned on its side, bright above and dark below. What does the kernel give, everywhere?",
        lambda: corr2d(compute()["image"].T, compute()["kernel"]).abs().max().item(),
        "In every row of the window left and right are equal.",
    ),
]
