"""A vertical edge, three pixels wide: the kernel that also smooths.

The image is bright (10) on the left and dark (0) on the right. The kernel has a column of ones, one of
zeros and one of minus ones: the sum of three pixels on the left minus the sum of three on the right.
Three rows at once make it steadier than (1, −1): a single noisy pixel weighs a third as much.

Question: Why is the edge two columns wide in a picture of four?
Answer: Because the kernel is three wide: it straddles the edge in two positions. In a photograph of a
thousand columns two are a thin line. The sign tells which way: from bright to dark is positive.

On real data: 3×3 is also the size of nearly all learned kernels.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.pictures import draw_matrix
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
    for axes, name in zip(figure.subplots(1, 3), ("image", "kernel", "edge"), strict=True):
        draw_matrix(axes, values[name], name)
