"""Many ways to build a ResNet: six shortcuts and five orders of the same layers.

He, Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, compare them on
CIFAR-10, one change at a time: the shortcuts (figure 2, table 1) in the original order, the orders
(figure 4, table 2) with the identity. Here any shortcut goes with any order, at any depth of 6n+2.

The network around the units is that of `resnet20` to `resnet110`, and `residual_variants` with its
defaults is `resnet20`. Where the shape changes, "identity" means shortcut A there: every second pixel,
and zeros for the new channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.models.registry import MODELS
from cnnlab.models.resnet import conv1x1, conv3x3, zero_padding
from cnnlab.signature import Count

# --- Shortcuts: how a unit's input x and its residual F(x) become one -------------------------------
# Each error is that of 110 layers on CIFAR-10, from table 1.

SCALE = 0.5  # of both sides in constant scaling; with F(x) unscaled 110 layers do not converge
GATE_BIAS = -6.0  # the best of 0, -1, …, -10 in the paper: a gate begins at 0.0025, all but closed
DROPOUT = 0.5


class IdentityShortcut(nn.Module):
    """x + F(x). Error 6.61 %."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.identity = zero_padding(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.identity(x) + residual


class ConstantScaling(IdentityShortcut):
    """0.5 x + 0.5 F(x). Error 12.35 %."""

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return SCALE * self.identity(x) + (1 - SCALE) * residual


class Gate(nn.Module):
    """g(x) = sigmoid(W x + b), where W is a 1×1 convolution and b begins at -6.

    The bias is a parameter of its own, since a `model.init` that clears the biases of convolutions
    would open the gate.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv = conv1x1(in_channels, out_channels, stride)
        self.bias = nn.Parameter(torch.full((out_channels, 1, 1), GATE_BIAS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.conv(x) + self.bias)


class ExclusiveGating(IdentityShortcut):
    """(1 - g(x)) x + g(x) F(x): a highway network's gate. Error 8.70 %."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, stride)
        self.gate = Gate(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        gate = self.gate(x)
        return (1 - gate) * self.identity(x) + gate * residual


class ShortcutOnlyGating(ExclusiveGating):
    """(1 - g(x)) x + F(x). Error 6.91 %, and 12.86 % where b begins at 0."""

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return (1 - self.gate(x)) * self.identity(x) + residual


class ConvolutionShortcut(nn.Module):
    """W x + F(x), with W a 1×1 convolution and batch normalisation in every unit. Error 12.22 %."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.convolution = nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.convolution(x) + residual


class DropoutShortcut(IdentityShortcut):
    """dropout(x) + F(x). 110 layers do not converge."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, stride)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.identity(x)) + residual


Shortcut = Literal["identity", "constant_scaling", "exclusive_gating", "shortcut_only_gating", "convolution", "dropout"]
SHORTCUTS: dict[Shortcut, type[nn.Module]] = {
    "identity": IdentityShortcut,
    "constant_scaling": ConstantScaling,
    "exclusive_gating": ExclusiveGating,
    "shortcut_only_gating": ShortcutOnlyGating,
    "convolution": ConvolutionShortcut,
    "dropout": DropoutShortcut,
}

# --- Orders: where normalisation and activation stand -----------------------------------------------
# A unit is after(shortcut(x, branch(before(x)))). Each error is that of 110 layers, from table 2.

Order = Literal[
    "original", "bn_after_addition", "relu_before_addition", "relu_only_preactivation", "full_preactivation"
]
ORDERS: dict[Order, tuple[str, str, str]] = {
    # order                    before     branch                         after         error
    "original":                ("",        "conv bn relu conv bn",      "relu"),     # 6.61 %
    "bn_after_addition":       ("",        "conv bn relu conv",         "bn relu"),  # 8.17 %
    "relu_before_addition":    ("",        "conv bn relu conv bn relu", ""),         # 7.84 %
    "relu_only_preactivation": ("relu",    "conv bn relu conv bn",      ""),         # 6.71 %
    "full_preactivation":      ("bn relu", "conv bn relu conv",         ""),         # 6.37 %
}  # fmt: skip


def stack(words: str, in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """The layers that `words` of ORDERS name, of which the first convolution changes the shape."""
    layers = nn.Sequential()
    channels = in_channels
    for word in words.split():
        if word == "conv":
            layers.append(conv3x3(channels, out_channels, stride))
            channels, stride = out_channels, 1
        elif word == "bn":
            layers.append(nn.BatchNorm2d(channels))
        else:
            layers.append(nn.ReLU())
    return layers


# --- The unit and the network ---------------------------------------------------------------------


class ResidualUnit(nn.Module):
    """One unit of figure 2 and figure 4. (N, in_channels, H, W) → (N, out_channels, H / stride, W / stride).

    The first unit has nothing `before` its branch: the stem's activation stands there, and is shared by
    branch and shortcut.
    """

    def __init__(
        self,
        shortcut: Shortcut,
        order: Order,
        in_channels: int,
        out_channels: int,
        stride: int,
        is_first: bool,
    ):
        super().__init__()
        before, branch, after = ORDERS[order]
        self.before = stack("" if is_first else before, in_channels, in_channels)
        self.branch = stack(branch, in_channels, out_channels, stride)
        self.shortcut = SHORTCUTS[shortcut](in_channels, out_channels, stride)
        self.after = stack(after, out_channels, out_channels)

    @property
    def residual_end(self) -> nn.Module | None:
        """None for a branch that ends in a ReLU: at zero that passes no gradient, and the branch would stay zero."""
        return None if isinstance(self.branch[-1], nn.ReLU) else self.branch[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.shortcut(x, self.branch(self.before(x))))


@MODELS.register
def residual_variants(
    *,
    num_classes: int,
    in_channels: int,
    depth: Count = 20,
    shortcut: Shortcut = "identity",
    order: Order = "original",
) -> nn.Module:
    """A CIFAR ResNet of `depth` = 6n+2 layers with the shortcut and the order of layers that are asked for.

    Raises ConfigError for another depth.
    """
    if depth < 8 or depth % 6 != 2:
        raise ConfigError(f"model.depth: {depth} was given; expected 6n+2 layers, such as 8, 20, 56 or 110")
    network = nn.Sequential()
    network.stem = stack("conv bn relu", in_channels, 16)

    channels = 16
    for stage, out_channels in enumerate([16, 32, 64]):
        units = nn.Sequential()
        for index in range((depth - 2) // 6):
            stride = 2 if stage > 0 and index == 0 else 1
            is_first = stage == 0 and index == 0
            units.append(ResidualUnit(shortcut, order, channels, out_channels, stride, is_first))
            channels = out_channels
        network.add_module(f"stage{stage + 1}", units)

    before, _, _ = ORDERS[order]
    network.last = stack(before, channels, channels)  # what the unit after the last one would begin with
    network.pool = nn.AdaptiveAvgPool2d(1)
    network.flatten = nn.Flatten()
    network.linear = nn.Linear(channels, num_classes)
    return network
