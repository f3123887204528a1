"""From fully connected to convolution: look nearby, and use the same weights everywhere.

Stands on: conv, stacked_linear.

A linear layer takes a row of numbers. A small colour photograph, $64 · 64 · 3$, is a row of 12,288, and a hidden
layer of a thousand units has a weight for each pair: more than twelve million, before anything is
recognised. A photograph of a thousand pixels a side needs three billion. Two thoughts make it a
convolution:

    *locality*             an output looks at a few neighbouring pixels     its other weights are zero
    *the same everywhere*  an edge is an edge wherever it lies              all outputs share their weights

The table counts what each of them saves, for ten output channels of 62×62. A convolution is a linear layer
with a matrix that is mostly zeros and repeats a few numbers. The lesson builds that matrix for a 3×3 kernel
on a 5×5 image; its product with the image is the convolution, up to rounding.

Question: What is gained besides fewer weights?
Answer: What is learned at one position is known at every position. Move the image by one pixel, and the output
moves by one pixel with it; a dense layer gives something unrelated, and would have to see every object at
every position in order to learn it.

Question: What is lost?
Answer: The whole view. One output sees 3×3 pixels; what lies further apart meets in later layers only, as the
receptive field grows (lesson `small_kernels`).

On real data: the same images for a network of two linear layers, and for one of two convolutions and a
linear layer: 203,530 parameters and 8,490.

    cnnlab inspect model=mlp dataset=digits
    cnnlab inspect model=two_conv dataset=digits
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values, number, shape
from cnnlab.signature import Count, Range, Whole


def count_weights(size: int, channels: int, out_channels: int, kernel_size: int = 3) -> list[tuple[str, int]]:
    """Weights and biases of three layers with the same outputs, those of a convolution on a size×size image."""
    outputs = out_channels * (size - kernel_size + 1) ** 2
    window = channels * kernel_size**2
    return [
        ("every output sees every pixel", outputs * (size * size * channels + 1)),
        ("every output sees its window", outputs * (window + 1)),
        ("and an output channel shares one kernel: a convolution", out_channels * (window + 1)),
    ]


def convolution_matrix(kernel: Tensor, size: int) -> Tensor:
    """The matrix whose product with a flattened size×size image is the convolution: (positions, pixels)."""
    pixels = torch.eye(size * size).reshape(-1, 1, size, size)  # an image for each pixel, 1 there and 0 elsewhere
    return F.conv2d(pixels, kernel[None, None]).flatten(start_dim=1).T


def compute(
    *,
    size: Annotated[int, Range(at_least=3)] = 64,
    channels: Count = 3,
    units: Count = 1000,
    out_channels: Count = 10,
    seed: Whole = 0,
) -> Values:
    with seeded(seed):
        image = torch.randn(5, 5)
    kernel = torch.arange(1.0, 10).reshape(3, 3)
    matrix = convolution_matrix(kernel, 5)  # (9, 25)
    by_matrix = (matrix @ image.flatten()).reshape(3, 3)
    by_sliding = F.conv2d(image[None, None], kernel[None, None])[0, 0]
    inputs = size * size * channels
    return {
        "inputs": inputs,
        "units": units,
        "hidden_layer": inputs * units + units,
        "counts": count_weights(size, channels, out_channels),
        "outputs": (out_channels, size - 2, size - 2),
        "matrix": matrix,
        "difference": (by_matrix - by_sliding).abs().max().item(),
        "zeros": (matrix == 0).float().mean().item(),
        "different": len(matrix[matrix != 0].unique()),
    }


def show(values: Values) -> Parts:
    rows, columns = values["matrix"].shape
    return [
        f"A hidden layer of {values['units']:,} units on {values['inputs']:,} inputs: {values['hidden_layer']:,} "
        f"weights and biases. Now {shape(values['outputs'])} outputs:",
        Table(["layer", "weights and biases"], [list(row) for row in values["counts"]]),
        f"The matrix of a 3×3 kernel on a 5×5 image has {rows}·{columns} entries: {values['zeros']:.0%} are zero, and "
        f"the others are {values['different']} numbers over and over. Its product with an image and the sliding window "
        f"differ by at most {number(values['difference'])}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    (axes,) = panels(figure, 1, height=3.0)
    draw_matrix(axes, values["matrix"], "a row for each output, a column for each pixel; blank: 0")
    for text in axes.texts:
        text.set_fontsize(5.5)
        text.set_visible(text.get_text() != "0")


EXERCISES = [
    Exercise(
        "A grey image of 28×28 and a linear layer of 100 units: how many weights and biases?",
        lambda: sum(p.numel() for p in nn.Linear(28 * 28, 100).parameters()),
        "784 inputs, each joined to 100 units, and a bias for each unit.",
        slips={78400: "That is without the biases."},
    ),
    Exercise(
        "The same image and 100 kernels of 3×3: how many?",
        lambda: count_weights(28, 1, 100)[2][1],
        "Nine weights and a bias for each kernel.",
    ),
    Exercise(
        "Images of twice the side, 56×56: by which factor do the weights of the convolution grow?",
        lambda: count_weights(56, 1, 100)[2][1] / count_weights(28, 1, 100)[2][1],
        "Does the image's size occur in its count?",
        slips={4: "That is the linear layer."},
    ),
]
