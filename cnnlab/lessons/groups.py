"""Grouped and depthwise convolution: channels that do not meet.

Stands on: channels, bottleneck.

In an ordinary convolution every output channel looks at every input channel. Cut the channels into g groups,
and let each group of outputs look at its own group of inputs only: weights and multiplications shrink by g.

    ordinary    weight $(C_out, C_in, k, k)$
    g groups    weight $(C_out, C_in/g, k, k)$          g convolutions side by side
    depthwise   weight $(C, 1, k, k)$                   g = C: every channel by itself

Groups never hear of each other, so something has to mix them: a 1×1 convolution afterwards, or a shuffle of
the channels. A depthwise and a 1×1 layer together are a *separable* convolution; beside an ordinary one it
has this share of the weights:

    $1/C_out + 1/k²$

Question: Which network does which?
Answer: ResNeXt has 32 groups in its 3×3 layers (Xie et al. 2017, arXiv:1611.05431). Xception (Chollet 2017,
arXiv:1610.02357) and MobileNet (Howard et al. 2017, arXiv:1704.04861) are made of separable convolutions.
ShuffleNet (Zhang et al. 2017, arXiv:1707.01083) groups its 1×1 layers too, and shuffles.

Question: Eight times fewer multiplications: is it eight times faster?
Answer: Rarely. A depthwise layer does little work on each number that it fetches from memory, and waits for
the memory. Count multiply-adds for telephones, and measure seconds for the machine at hand.

On real data: thirteen separable convolutions; 95 % of all multiply-adds are in the 1×1 layers (pointwise).

    cnnlab inspect model=mobilenet_v1 dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.errors import ConfigError
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values, number
from cnnlab.signature import Count, Whole


def grouped(images: Tensor, weight: Tensor, groups: int) -> Tensor:
    """g convolutions side by side: (N, C_in, h, w), (C_out, C_in/g, k, k) → (N, C_out, ...)."""
    parts = zip(images.chunk(groups, dim=1), weight.chunk(groups, dim=0), strict=True)
    return torch.cat([F.conv2d(x, w) for x, w in parts], dim=1)


def shuffle(channels: Tensor, groups: int) -> Tensor:
    """The first of each group, the second of each, …: written in rows of a group, read by columns."""
    return channels.reshape(groups, -1).T.flatten()


def count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def compute(*, channels: Count = 8, groups: Count = 4, kernel_size: Count = 3, seed: Whole = 0) -> Values:
    if channels % groups:
        raise ConfigError(f"groups: {groups} was given; expected a divisor of channels={channels}")
    with seeded(seed):
        images = torch.randn(1, channels, 6, 6)
        layer = nn.Conv2d(channels, channels, kernel_size, groups=groups, bias=False)
    difference = (layer(images) - grouped(images, layer.weight, groups)).abs().max().item()

    # Which output hears which input: the gradient of each output's sum, input by input.
    x = images.clone().requires_grad_()
    heard = [torch.autograd.grad(y.sum(), x, retain_graph=True)[0].abs().sum(dim=(0, 2, 3)) for y in layer(x)[0]]
    separable = channels * kernel_size**2 + channels**2
    weights = [
        ["ordinary", channels**2 * kernel_size**2],
        [f"{groups} groups", count(layer)],
        ["depthwise", channels * kernel_size**2],
        ["depthwise and 1×1", separable],
    ]
    return {
        "weights": weights,
        "shape": tuple(layer.weight.shape),
        "difference": difference,
        "heard": (torch.stack(heard) > 0).float(),
        "shuffled": shuffle(torch.arange(channels), groups),
        "share": 1 / channels + 1 / kernel_size**2,
    }


def show(values: Values) -> Parts:
    ordinary = values["weights"][0][1]
    return [
        Table(["layer", "weights", "share"], [[name, size, size / ordinary] for name, size in values["weights"]]),
        f"By the formula the last share is {values['share']:.4f}. The grouped layer's weight has the shape "
        f"{values['shape']}; torch's layer and our convolutions side by side differ by at most "
        f"{number(values['difference'])}.",
        {"output (row) hears input (column)": values["heard"], "channels, shuffled": values["shuffled"]},
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    draw_matrix(left, values["heard"], "grouped: which output hears which input")
    draw_matrix(right, torch.eye(len(values["heard"])), "depthwise: each its own")


EXERCISES = [
    Exercise(
        "64 to 64 channels, 3×3, 32 groups, no bias: how many weights?",
        lambda: count(nn.Conv2d(64, 64, 3, groups=32, bias=False)),
        "64·64·9, divided by the groups.",
    ),
    Exercise(
        "Depthwise 3×3 and 1×1 in place of 3×3, 256 to 256 channels: what share of the weights is left, in per cent?",
        lambda: 100 * (256 * 9 + 256 * 256) / (256 * 256 * 9),
        "1/C_out + 1/k².",
    ),
    Exercise(
        "Six channels 0 1 2 3 4 5 in two groups, shuffled: their new order?",
        lambda: tuple(shuffle(torch.arange(6), 2).tolist()),
        "The first of each group, then the second of each.",
    ),
]
