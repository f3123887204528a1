"""Stride: the window jumps, and the image shrinks.

Stands on: padding.

With stride s the window moves s pixels at a time, to the right and down. The same sums are computed,
only fewer of them: of the output with stride 1, every s-th row and every s-th column is kept.

    $output size = (n + 2p − k) / s + 1$,  the quotient rounded down

Stride changes neither the kernel nor how many weights there are. It is the cheap way to make an image
smaller: what would be thrown away is never computed.

Question: Rounded down: what happens to pixels that the last jump does not reach?
Answer: They are never looked at, unless padding brings them under the window. `stride=3 padding=0`
keeps one position of three, and the last two rows and columns are lost without a word.

On real data: the stages of a ResNet start with stride 2; watch the size halve and the channels double.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.padding import IMAGE, KERNEL
from cnnlab.lessons.pictures import draw_matrix, frame, panels
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Count, Whole


def compute(*, stride: Count = 2, padding: Whole = 1) -> Values:
    image, kernel = IMAGE[None, None], KERNEL[None, None]
    every = F.conv2d(image, kernel, padding=padding)[0, 0]
    output = F.conv2d(image, kernel, padding=padding, stride=stride)[0, 0]
    return {"every": every, "output": output, "stride": stride, "padding": padding}


def show(values: Values) -> Parts:
    stride, padding, rows = values["stride"], values["padding"], len(values["output"])
    return [
        {"input": IMAGE, "kernel": KERNEL},
        {"stride 1": values["every"], f"stride {stride}": values["output"]},
        f"The shape: (5 + 2·{padding} − 3) / {stride} + 1, rounded down, is {rows}. "
        "Every number on the right stands on the left too.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2, height=3.2)
    draw_matrix(left, values["every"], "stride 1; framed: what the stride keeps")
    draw_matrix(right, values["output"], f"stride {values['stride']}")
    rows, columns = values["every"].shape
    for i in range(0, rows, values["stride"]):
        for j in range(0, columns, values["stride"]):
            frame(left, i, j)


EXERCISES = [
    Exercise(
        "n = 224, k = 7, p = 3, s = 2, the first layer of a ResNet: the output's size?",
        lambda: F.conv2d(torch.zeros(1, 1, 224, 224), torch.zeros(1, 1, 7, 7), padding=3, stride=2).shape[2],
        "(224 + 6 − 7) / 2 is not whole: round it down, then add 1.",
        slips={111: "The first position counts as well: + 1."},
    ),
    Exercise(
        "n = 8, k = 3, p = 0, s = 3: how many of the eight rows does no window touch?",
        lambda: 8 - (((8 - 3) // 3) * 3 + 3),
        "Write down the rows at which windows begin, and the last row of the last one.",
    ),
    Exercise(
        "A stride of 2 in place of 1: by about what factor do the multiplications shrink?",
        lambda: 4,
        "Rows and columns both.",
        slips={2: "That is for the rows alone."},
    ),
]
