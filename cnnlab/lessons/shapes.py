"""Padding and stride together: four layers on an 8×8 image.

Stands on: padding, stride.

Height and width each follow their own rule, with their own kernel, padding and stride:

    $output size = (n + 2p − k) / s + 1$,  the quotient rounded down

So a kernel may be taller than wide, and may step differently down and across. The table goes from
layers that keep the shape to one with everything different.

Question: Which of the three should I tune?
Answer: The kernel's size matters most, and 3×3 is the usual choice; padding then follows, as what keeps
the shape; stride is 1, or 2 where the image is to be halved. More important than all three is the
number of channels.

On real data: what comes out of each layer. Sizes stay where a 3×3 kernel has padding 1, and halve where
a stage begins with stride 2.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import COLORS, draw_matrix, frame
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def output_size(size: int, kernel: int, padding: int, stride: int) -> int:
    """How many positions a window has along one side of an image."""
    return (size + 2 * padding - kernel) // stride + 1


def compute(
    *,
    size: Count = 8,
    kernel_size: tuple[Count, Count] = (3, 5),
    padding: tuple[Whole, Whole] = (0, 1),
    stride: tuple[Count, Count] = (3, 4),
) -> Values:
    layers = [
        ((3, 3), (1, 1), (1, 1)),
        ((5, 3), (2, 1), (1, 1)),
        ((3, 3), (1, 1), (2, 2)),
        ((kernel_size[0], kernel_size[1]), (padding[0], padding[1]), (stride[0], stride[1])),
    ]
    rows = []
    for k, p, s in layers:
        output = F.conv2d(torch.zeros(1, 1, size, size), torch.zeros(1, 1, *k), padding=p, stride=s)
        by_rule = tuple(output_size(size, k[side], p[side], s[side]) for side in (0, 1))
        rows.append((k, p, s, tuple(output.shape[2:]), by_rule))
    return {"size": size, "rows": rows}


def show(values: Values) -> Parts:
    k, p, s, shape, _ = values["rows"][-1]
    n = values["size"]
    return [
        Table(
            ["kernel", "padding", "stride", "output", "by the rule"],
            [
                [*(f"{rows}, {columns}" for rows, columns in (k, p, s)), shape, by_rule]
                for k, p, s, shape, by_rule in values["rows"]
            ],
        ),
        f"The last one. Rows: ({n} + 2·{p[0]} − {k[0]}) / {s[0]} + 1 → {shape[0]}. "
        f"Columns: ({n} + 2·{p[1]} − {k[1]}) / {s[1]} + 1 → {shape[1]}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    (k, p, s, sizes, _), n = values["rows"][-1], values["size"]
    figure.set_figheight(3.6)
    axes = figure.subplots()
    draw_matrix(
        axes, F.pad(torch.ones(n, n), (p[1], p[1], p[0], p[0])), "padded image, and the windows of the last layer"
    )
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            frame(axes, i * s[0], j * s[1], k[0], k[1], COLORS[(i * sizes[1] + j) % len(COLORS)])


EXERCISES = [
    Exercise(
        "A kernel of 7 rows and 1 column is to keep the shape 8×8 at stride 1. Which padding, rows and columns?",
        lambda: next(
            (p, q) for p in range(8) for q in range(8) if (output_size(8, 7, p, 1), output_size(8, 1, q, 1)) == (8, 8)
        ),
        "Each side by itself: n + 2p − k + 1 = n.",
    ),
    Exercise(
        "8×8, kernel (2, 4), no padding, stride (2, 4): which shape comes out?",
        lambda: (output_size(8, 2, 0, 2), output_size(8, 4, 0, 4)),
        "Windows that stand side by side without overlap: how many fit?",
    ),
    Exercise(
        "8×8, a 3×3 kernel, no padding: with which stride does 3×3 come out?",
        lambda: next(s for s in range(1, 9) if output_size(8, 3, 0, s) == 3),
        "(8 − 3) / s + 1, the quotient rounded down, is to be 3.",
    ),
]
