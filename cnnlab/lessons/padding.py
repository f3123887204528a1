"""Padding: a frame of zeros, and the image keeps its size.

Stands on: cross_correlation.

A window of k pixels has $n − k + 1$ positions on a row of n. So a convolution without padding takes
$k − 1$ pixels from every row and column, and after some layers no image is left. It also meets a corner
pixel once, and an inner one k·k times. Padding first lays p rows and columns of zeros around the image:

    $output size = n + 2p − k + 1$

With an odd k and $p = (k − 1)/2$ the size stays what it was.

Question: The border of the output is small (91, 31, …). Do the zeros do harm?
Answer: At a corner, five of the nine products are with a zero, so sums there are smaller. Networks live
with it, and even use it: from the border a network learns where in the image it is looking (Islam, Jia
& Bruce 2020, arXiv:2001.08248).

On real data: LeNet's first layer pads by 2, so its 5×5 kernels leave 28×28 images at 28×28.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, frame, panels
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Whole

IMAGE = torch.tensor(
    [
        [3.0, 4, 6, 5, 7],
        [2, 4, 6, 8, 2],
        [1, 6, 7, 8, 4],
        [9, 7, 4, 6, 2],
        [3, 7, 5, 4, 1],
    ]
)
KERNEL = torch.arange(1.0, 10).reshape(3, 3)


def compute(*, padding: Whole = 1) -> Values:
    padded = F.pad(IMAGE, (padding, padding, padding, padding))
    output = F.conv2d(padded[None, None], KERNEL[None, None])[0, 0]
    return {"padded": padded, "output": output, "padding": padding}


def show(values: Values) -> Parts:
    padded, output, padding = values["padded"], values["output"], values["padding"]
    window = padded[:3, :3]
    products = " + ".join(
        f"{weight:g}·{pixel:g}" for pixel, weight in zip(window.flatten(), KERNEL.flatten(), strict=True) if pixel
    )
    return [
        {"input": IMAGE, "kernel": KERNEL, "output": output},
        f"The shape: 5 + 2·{padding} − 3 + 1 = {len(output)} rows, and as many columns.",
        {"the window at the top left, zeros included": window},
        f"Times the kernel, entry by entry: {products or 0} = {output[0, 0]:g}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2, height=3.2)
    draw_matrix(left, values["padded"], "input with its frame of zeros, and the first window")
    draw_matrix(right, values["output"], "output, and what that window gives")
    frame(left, 0, 0, 3, 3)
    frame(right, 0, 0)


EXERCISES = [
    Exercise(
        "Which padding keeps an image's size under a 7×7 kernel?",
        lambda: next(p for p in range(7) if 32 + 2 * p - 7 + 1 == 32),
        "Solve n + 2p − k + 1 = n for p.",
        slips={6: "The frame lies on both sides."},
    ),
    Exercise(
        "A 5×5 image, a 3×3 kernel and padding 2: how many rows does the output have?",
        lambda: len(compute(padding=2)["output"]),
        "With padding 1 it kept its 5.",
    ),
    Exercise(
        "Padding 1, a window in the middle of the top edge: how many of its nine products are with the frame?",
        lambda: int((F.pad(torch.ones(5, 5), (1, 1, 1, 1))[0:3, 2:5] == 0).sum()),
        "Draw the frame, and the window over its top row.",
        slips={5: "That is a corner; this window is in the middle of an edge."},
    ),
]
