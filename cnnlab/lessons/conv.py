"""A convolution layer, and the shapes that go in and out.

Stands on: channels.

A batch of images has four dimensions: (images, channels, rows, columns). A kernel must look at every input
channel, so it is as deep as the image; and there is one such kernel for each output channel. The
layer's weight therefore has four dimensions too:

    input    $(N, C_in, H, W)$
    weight   $(C_out, C_in, k, k)$
    output   $(N, C_out, H − k + 1, W − k + 1)$

Nothing ties the size of the kernel to the size of the image: the same ten kernels run over any image
that is at least as large as they are.

Question: Rows or columns first?
Answer: Rows (height), then columns (width), in images and in weights, and the output channel stands
before the input channel in a weight. The notes write (B, C, W, H). With square images and kernels the
mistake goes unnoticed; the first photograph of 640×480 brings it out.

On real data: the same trace through a whole network, layer by layer.

    cnnlab inspect model=two_conv dataset=mnist
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import COLORS, Axes
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values, shape
from cnnlab.signature import Count


def compute(*, in_channels: Count = 5, out_channels: Count = 10, kernel_size: Count = 3, size: Count = 100) -> Values:
    with seeded(0):
        images = torch.randn(1, in_channels, size, size)
        layer = nn.Conv2d(in_channels, out_channels, kernel_size)
        output = layer(images)
    return {
        "input": tuple(images.shape),
        "weight": tuple(layer.weight.shape),
        "bias": tuple(layer.bias.shape),
        "output": tuple(output.shape),
        "parameters": sum(p.numel() for p in layer.parameters()),
        "multiplications": output.numel() * layer.weight[0].numel(),
    }


def show(values: Values) -> Parts:
    _, c_in, k, _ = values["weight"]
    _, c_out, rows, columns = values["output"]
    return [
        Table(
            ["tensor", "shape"],
            [[name, str(values[name])] for name in ("input", "weight", "bias", "output")],
        ),
        f"Parameters: {c_out} kernels of {c_in}·{k}·{k} weights and a bias each, "
        f"{values['parameters']:,} numbers in all. Each of the {c_out}·{rows}·{columns} outputs "
        f"takes {c_in}·{k}·{k} multiplications: {values['multiplications']:,}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    """Channels as cards, one before the other; a kernel is as deep as the input, and makes one output channel."""
    figure.set_figheight(0.48 * figure.get_figwidth())
    axes = figure.subplots()
    axes.set_axis_off()
    _, c_in, rows, columns = values["input"]
    _, c_out, rows_out, columns_out = values["output"]
    kernel = shape(values["weight"][1:])
    draw_cards(axes, 0.0, 2.0, min(c_in, 8), COLORS[0], f"input\n{c_in} channels\n{rows}×{columns} each")
    draw_cards(axes, 3.6, 0.5, min(c_in, 8), COLORS[1], f"{c_out} kernels\n{kernel} each")
    draw_cards(axes, 5.8, 1.9, min(c_out, 12), COLORS[2], f"output\n{c_out} channels\n{rows_out}×{columns_out} each")
    axes.text(3.1, 1.0, "⋆", fontsize=14, ha="center")
    axes.text(5.2, 1.0, "=", fontsize=14, ha="center")
    axes.set(xlim=(-0.2, 9.4), ylim=(-1.2, 3.4), aspect="equal")


def draw_cards(axes: Axes, x: float, side: float, count: int, color: str, label: str) -> None:
    from matplotlib.patches import Rectangle

    for i in reversed(range(count)):
        corner = (x + 0.11 * i, 0.4 + 0.11 * i)
        axes.add_patch(Rectangle(corner, side, side, facecolor="white", edgecolor=color, linewidth=1.1))
    axes.text(x, 0.2, label, va="top", fontsize=8)


EXERCISES = [
    Exercise(
        "A layer from 3 to 16 channels with 5×5 kernels: how many parameters, biases included?",
        lambda: compute(in_channels=3, out_channels=16, kernel_size=5)["parameters"],
        "Each of the 16 kernels has 3·5·5 weights and one bias.",
        slips={1200: "That is without the biases.", 416: "A kernel is as deep as the image."},
    ),
    Exercise(
        "That layer on photographs of 480 rows and 640 columns: rows and columns of the output?",
        lambda: tuple(nn.Conv2d(3, 16, 5)(torch.zeros(1, 3, 480, 640)).shape[2:]),
        "n − k + 1 for each side.",
    ),
    Exercise(
        "That layer on 32×32 images: how many multiplications for one image?",
        lambda: compute(in_channels=3, out_channels=16, kernel_size=5, size=32)["multiplications"],
        "Each of the 16·28·28 outputs takes 3·5·5.",
    ),
]
