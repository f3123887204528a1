"""Padding and stride together: four layers on an 8×8 image.

Height and width each follow their own rule, with their own kernel, padding and stride:

    output size = (n + 2p − k) / s + 1, rounded down

So a kernel may be taller than wide, and may step differently down and across. The table goes from
layers that keep the shape to one with everything different.

Question: Which of the three should I tune?
Answer: The kernel's size matters most, and 3×3 is the usual choice; padding then follows, as what keeps
the shape; stride is 1, or 2 where the image is to be halved. More important than all three is the
number of channels.

On real data: padding, stride and shapes of each layer.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnnlab.lessons.view import Parts, Table, Values
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
