"""Max pooling: of each window, the largest number stays.

After a convolution a large number says "the feature is here". Pooling keeps that answer and forgets the
exact place: windows of k×k stand side by side, and each hands on its maximum. The image gets smaller by
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

from cnnlab.lessons.pictures import draw_matrix
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
    left, middle, right = figure.subplots(1, 3)
    draw_matrix(left, IMAGE, "input")
    draw_matrix(middle, values["maximum"], "maximum")
    draw_matrix(right, values["gradient"], "where the gradient goes")
