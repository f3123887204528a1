"""Stride: the window jumps, and the image shrinks.

With stride s the window moves s pixels at a time, to the right and down. The same sums are computed,
only fewer of them: of the output with stride 1, every s-th row and every s-th column is kept.

    output size = (n + 2p − k) / s + 1, rounded down

Stride changes neither the kernel nor how many weights there are. It is the cheap way to make an image
smaller: what would be thrown away is never computed.

Question: Rounded down: what happens to pixels that the last jump does not reach?
Answer: They are never looked at, unless padding brings them under the window. `stride=3 padding=0`
keeps one position of three, and the last two rows and columns are lost without a word.

On real data: the stages of a ResNet start with stride 2; watch the size halve and the channels double.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

from torch.nn import functional as F

from cnnlab.lessons.padding import IMAGE, KERNEL
from cnnlab.lessons.pictures import draw_matrix
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
    left, right = figure.subplots(1, 2)
    draw_matrix(left, values["every"], "stride 1; framed: what the stride keeps")
    draw_matrix(right, values["output"], f"stride {values['stride']}")
    rows, columns = values["every"].shape
    for i in range(0, rows, values["stride"]):
        for j in range(0, columns, values["stride"]):
            left.plot(*_square(i, j), color="#c8553d")


def _square(i: int, j: int) -> tuple[list[float], list[float]]:
    """The outline of a cell, as x and y of its corners."""
    return [j - 0.46, j + 0.46, j + 0.46, j - 0.46, j - 0.46], [
        i - 0.46,
        i - 0.46,
        i + 0.46,
        i + 0.46,
        i - 0.46,
    ]
