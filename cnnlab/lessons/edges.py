"""Edges: the smallest useful kernel, (1, −1).

It subtracts from each pixel its neighbour on the right. Where the image is even that is 0; where it
steps down from 1 to 0 it is +1, where it steps up it is −1. A difference of neighbours is the
derivative of an image, and edges are where a derivative is large.

The kernel sees vertical edges only. Turn the image on its side and it finds nothing; turn the kernel as
well and the edges are back.

Question: What finds edges in every direction?
Answer: Two kernels, one upright and one on its side: √(a² + b²) of their two answers is the strength of
the edge, whichever way it runs. That is a reason for many output channels: each looks for its own
thing.

On real data: a network that finds its own kernels for digits.

    cnnlab train model=mnist_cnn dataset=mnist
"""

from __future__ import annotations

from typing import Annotated

import torch

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.pictures import draw_matrix
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Range


def compute(*, size: Annotated[int, Range(at_least=5)] = 6) -> Values:
    image = torch.ones(size, size)
    image[:, 2:4] = 0
    kernel = torch.tensor([[1.0, -1.0]])
    return {
        "image": image,
        "edges": corr2d(image, kernel),
        "turned image": corr2d(image.T, kernel),
        "turned both": corr2d(image.T, kernel.T),
    }


def show(values: Values) -> Parts:
    return [
        {"image": values["image"], "kernel (1, −1)": values["edges"]},
        "+1 where the image falls from 1 to 0, −1 where it rises again.",
        {
            "image on its side": values["image"].T,
            "kernel (1, −1)": values["turned image"],
            "kernel on its side": values["turned both"],
        },
    ]


def draw(values: Values, figure: Figure) -> None:
    for axes, name in zip(figure.subplots(1, 4), ("image", "edges", "turned image", "turned both"), strict=True):
        draw_matrix(axes, values[name], name)
