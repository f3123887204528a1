"""Edges: the smallest useful kernel, (1, −1).

Stands on: cross_correlation.

The kernel (1, −1) subtracts from each pixel its neighbour on the right. Where the image is even, that is 0;
where it steps down from 1 to 0 it is +1, and where it steps up it is −1. A difference of neighbours is the
derivative of an image, and edges are where a derivative is large.

The kernel sees vertical edges only. Turn the image on its side and it finds nothing; turn the kernel as
well and the edges are back.

Question: What finds edges in every direction?
Answer: Two kernels, one upright and one on its side: $√(a² + b²)$ of their two outputs is the strength
of the edge, whichever way it runs. That is a reason for many output channels: each looks for its own
thing.

On real data: a network finds its own kernels, here for digits. Afterwards `cnnlab inspect RUN --plot`
draws them, where RUN is the folder that the last line of the training names.

    cnnlab train model=mnist_cnn dataset=digits
"""

from __future__ import annotations

from typing import Annotated

import torch

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
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
    names = ("image", "edges", "turned image", "turned both")
    for axes, name in zip(panels(figure, 4, in_a_row=4, narrow=2), names, strict=True):
        draw_matrix(axes, values[name], name)


EXERCISES = [
    Exercise(
        "With the kernel (−1, 1) instead: what stands where the image falls from 1 to 0?",
        lambda: corr2d(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 1.0]])).item(),
        "Left pixel times −1, right pixel times 1.",
    ),
    Exercise(
        "Every row of an image is 0 2 4 6 8. What does (1, −1) give, everywhere?",
        lambda: corr2d(torch.arange(0.0, 10, 2)[None], torch.tensor([[1.0, -1.0]]))[0, 0].item(),
        "Subtract from a pixel its neighbour on the right.",
        slips={2: "The right neighbour is the larger one."},
    ),
    Exercise(
        "A row 1 1 0 0 0 1 and the kernel (1, 0, −1): which four numbers come out?",
        lambda: tuple(corr2d(torch.tensor([[1.0, 1, 0, 0, 0, 1]]), torch.tensor([[1.0, 0, -1]]))[0].tolist()),
        "Each is a pixel minus the one two to the right of it.",
    ),
]
