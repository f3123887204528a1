"""Max pooling: of each window, the largest number stays.

Stands on: stride.

After a convolution a large number says "the feature is here". Pooling keeps that finding and forgets the
exact position: windows of k×k stand side by side, and each hands on its maximum. The image gets smaller by
k, the channels stay apart and stay as many, and there is nothing to learn.

Question: Without parameters, what does the backward pass do here?
Answer: It passes each gradient to the pixel that won its window, and nothing to the others, for a small
change of a loser changes no output. Average pooling instead gives every pixel the same share.

On real data: two poolings take 24×24 and 8×8 maps down to 12×12 and 4×4.

    cnnlab inspect model=two_conv dataset=mnist
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import COLORS, draw_matrix, frame, panels
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Range

IMAGE = torch.tensor([[3.0, 4, 6, 5], [2, 4, 6, 8], [1, 6, 7, 8], [9, 7, 4, 6]])


def compute(*, kernel_size: Annotated[int, Range(at_least=1, at_most=4)] = 2) -> Values:
    image = IMAGE[None, None].clone().requires_grad_()
    maximum = F.max_pool2d(image, kernel_size)
    average = F.avg_pool2d(image, kernel_size)
    (gradient,) = torch.autograd.grad(maximum.sum(), image)
    return {
        "maximum": maximum.detach()[0, 0],
        "average": average.detach()[0, 0],
        "gradient": gradient[0, 0],
    }


def show(values: Values) -> Parts:
    return [
        {"input": IMAGE, "maximum": values["maximum"], "average": values["average"]},
        {"gradient of the sum of the maxima": values["gradient"]},
        "Each window has exactly one winner; where two pixels tie, the first in reading order is taken.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, middle, right = panels(figure, 3)
    draw_matrix(left, IMAGE, "input and its windows")
    draw_matrix(middle, values["maximum"], "maximum of each")
    draw_matrix(right, values["gradient"], "where the gradient goes")
    rows, columns = values["maximum"].shape
    size = len(IMAGE) // rows
    for i in range(rows):
        for j in range(columns):
            color = COLORS[(i * columns + j) % len(COLORS)]
            frame(left, i * size, j * size, size, size, color)
            frame(middle, i, j, color=color)


EXERCISES = [
    Exercise(
        "One window of 4×4 over the whole input: the maximum?",
        lambda: compute(kernel_size=4)["maximum"].item(),
        "The largest of all sixteen numbers.",
    ),
    Exercise(
        "The 9 and its right neighbour, the 7, change places. Does the output change? (yes or no)",
        lambda: "no",
        "Is it still in the same window?",
    ),
    Exercise(
        "A 32×32 image is pooled by 2 three times: how many rows are left?",
        lambda: F.max_pool2d(F.max_pool2d(F.max_pool2d(torch.zeros(1, 1, 32, 32), 2), 2), 2).shape[2],
        "Halve three times.",
    ),
]
