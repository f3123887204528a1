"""A 1×1 convolution is a matrix product, pixel by pixel.

Stands on: channels.

With a 1×1 kernel the window is a single pixel, so nothing is left of the sliding: each output channel
is a weighted sum of the input channels at the same pixel. Write the image as a matrix with a row for
each channel and a column for each pixel, and the layer is one multiplication:

    $(C_out, C_in) · (C_in, h·w) = (C_out, h·w)$

It is a linear layer that is applied to every pixel with the same weights.

Question: Then what is it good for?
Answer: For changing the number of channels: fewer before an expensive layer (lesson `bottleneck`), more
on a shortcut whose two ends differ (lesson `residual`), and to mix what a depthwise convolution left
apart (lesson `groups`).

On real data: the shortcuts of a ResNet where the channels double, in the rows `downsample.0`: three layers
that change the number of channels, and see no further than what they are given.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.lessons.channels import corr2d_multi_in_out
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Count, Whole


def compute(*, in_channels: Count = 3, out_channels: Count = 2, size: Count = 3, seed: Whole = 0) -> Values:
    with seeded(seed):
        image = torch.randn(in_channels, size, size)
        weight = torch.randn(out_channels, in_channels)
    product = weight @ image.reshape(in_channels, -1)  # (C_out, h·w)
    return {
        "image": image,
        "weight": weight,
        "product": product.reshape(out_channels, size, size),
        "convolution": corr2d_multi_in_out(image, weight[:, :, None, None]),
        "torch": F.conv2d(image[None], weight[:, :, None, None])[0],
    }


def show(values: Values) -> Parts:
    difference = (values["product"] - values["convolution"]).abs().max().item()
    return [
        {"weight (outputs × inputs)": values["weight"]},
        {f"product, channel {o + 1}": matrix for o, matrix in enumerate(values["product"])},
        {f"convolution, channel {o + 1}": matrix for o, matrix in enumerate(values["convolution"])},
        f"Largest difference: {difference:.0e}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, middle, right = panels(figure, 3)
    draw_matrix(left, values["weight"], "weight: a row for each output")
    draw_matrix(middle, values["image"].flatten(1)[:, :5], "image: a row a channel, first 5 pixels")
    draw_matrix(right, values["product"].flatten(1)[:, :5], "their product")


EXERCISES = [
    Exercise(
        "A 1×1 layer from 256 to 64 channels, without bias: how many weights?",
        lambda: nn.Conv2d(256, 64, 1, bias=False).weight.numel(),
        "The matrix has a row for each output and a column for each input.",
    ),
    Exercise(
        "Its receptive field: how many pixels of the image does one output see?",
        lambda: 1,
        "How large is the window?",
        slips={256: "So many channels, but of how many pixels?"},
    ),
    Exercise(
        "Two 1×1 layers, 8 → 2 → 8, no activation between: the largest rank of the one matrix that replaces them?",
        lambda: int(
            torch.linalg.matrix_rank(torch.arange(16.0).reshape(8, 2).sin() @ torch.arange(16.0).reshape(2, 8).cos())
        ),
        "All must pass through the two channels in the middle.",
    ),
]
