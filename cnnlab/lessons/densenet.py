"""DenseNet: every layer sees all that came before it.

Stands on: residual, groups, batch_norm.

The other half of the notes' homework. A residual block *adds* what it computes, and the sum no longer tells
what was added. A dense block *stacks* it: each layer gets the channels of all earlier layers and appends k new
ones, its growth (Huang, Liu, van der Maaten & Weinberger 2017, arXiv:1608.06993):

    $x[l] = layer(stack(x[0], x[1], … , x[l − 1]))$

So after L layers $C + L·k$ channels leave the block, and $L·(L + 1) / 2$ arrows are drawn in it. A layer
is batch normalisation, ReLU and a 3×3 convolution; with a bottleneck a 1×1 layer to 4·k channels comes
first. Between blocks a transition of 1×1 (which may halve the channels) and average pooling makes the maps
smaller. Layers can be narrow, for nothing is lost: k = 12 or 32 is enough.

The lesson builds two networks of the paper and counts: DenseNet-40 (k = 12) for CIFAR-10, about 1.0 million
parameters, and DenseNet-121 (k = 32) for ImageNet, about 8 million.

Question: Fewer parameters than a ResNet of that accuracy: is it cheaper?
Answer: In parameters. All earlier maps are kept and read again by every later layer, so memory grows with the
square of the number of layers, and time is spent on copying.

On real data: layer by layer; see how the channels grow by 12.

    cnnlab inspect model=densenet40_k12 dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.diagrams import draw_network
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


def bn_relu_conv(channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), conv)


class DenseBlock(nn.Module):
    """(N, C, H, W) → (N, C + layers · growth, H, W)."""

    def __init__(self, channels: int, layers: int, growth: int, bottleneck: bool = False):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(layers):
            seen = channels + i * growth
            if bottleneck:
                layer = nn.Sequential(bn_relu_conv(seen, 4 * growth, 1), bn_relu_conv(4 * growth, growth, 3))
            else:
                layer = bn_relu_conv(seen, growth, 3)
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def densenet(
    stem: nn.Sequential, channels: int, blocks: list[int], growth: int, halve: bool, classes: int
) -> nn.Sequential:
    """Dense blocks of so many layers each; between two of them a transition. `halve` goes with bottlenecks."""
    net = nn.Sequential(*stem)
    for i, layers in enumerate(blocks):
        net.append(DenseBlock(channels, layers, growth, bottleneck=halve))
        channels += layers * growth
        if i < len(blocks) - 1:
            out_channels = channels // 2 if halve else channels
            net.extend([bn_relu_conv(channels, out_channels, 1), nn.AvgPool2d(2)])
            channels = out_channels
    return net.extend(
        [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    )


def densenet40() -> nn.Sequential:
    """40 layers: one at the start, 3 · 12 in blocks, 2 transitions, one at the end. (N, 3, 32, 32) → (N, 10)."""
    stem = nn.Sequential(nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False))
    return densenet(stem, 16, [12, 12, 12], growth=12, halve=False, classes=10)


def densenet121() -> nn.Sequential:
    """121 layers: one at the start, 2 · 58 in blocks, 3 transitions, one at the end. (N, 3, 224, 224) → (N, 1000)."""
    stem = nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    return densenet(stem, 64, [6, 12, 24, 16], growth=32, halve=True, classes=1000)


def compute(*, layers: Count = 4, growth: Count = 12, channels: Count = 16) -> Values:
    with torch.device("meta"):  # shapes without numbers: enough to count
        nets = {"DenseNet-40, k = 12": densenet40(), "DenseNet-121, k = 32": densenet121()}
        block = DenseBlock(channels, layers, growth)
        x = torch.zeros(1, channels, 8, 8)
        widths = [channels]
        for layer in block.layers:
            x = torch.cat([x, layer(x)], dim=1)
            widths.append(x.shape[1])
    return {
        "widths": widths,
        "arrows": layers * (layers + 1) // 2,
        "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()},
        "published": {"DenseNet-40, k = 12": "1.0 million", "DenseNet-121, k = 32": "8.0 million"},
        "growth": growth,
    }


def show(values: Values) -> Parts:
    return [
        f"Channels before and after each layer of a block: {', '.join(map(str, values['widths']))}. "
        f"{values['arrows']} arrows.",
        Table(
            ["network", "parameters", "as published"],
            [[name, count, values["published"][name]] for name, count in values["parameters"].items()],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    channels = values["widths"][0]
    draw_network(figure, DenseBlock(channels, 2, values["growth"]).eval(), torch.zeros(1, channels, 8, 8))


EXERCISES = [
    Exercise(
        "24 channels enter a block of 16 layers with k = 12. How many leave it?",
        lambda: compute(layers=16, growth=12, channels=24)["widths"][-1],
        "C + L·k.",
    ),
    Exercise(
        "How many arrows are in a block of 16 layers?",
        lambda: compute(layers=16)["arrows"],
        "1 + 2 + … + 16.",
    ),
    Exercise(
        "DenseNet-121: how many inputs has its last linear layer?",
        lambda: list(densenet121().parameters())[-2].shape[1],
        "64 + 6·32, halved; + 12·32, halved; + 24·32, halved; + 16·32.",
    ),
]
