"""Networks without convolutions: an image is one long vector of in_channels · side² numbers.

What a convolution adds is measured against these. `linear` is softmax regression (linear regression,
where there is one output). `stacked_linear` has one more layer and yet can do nothing more, since
W₂(W₁x + b₁) + b₂ = (W₂W₁)x + (W₂b₁ + b₂). `mlp` puts an activation in between: then depth counts.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.signature import Count

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "rrelu": nn.RReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "prelu", "rrelu", "gelu", "silu"]


@MODELS.register
def linear(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """One linear layer: 7,850 parameters for ten classes of 1×28×28 images."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))


@MODELS.register
def stacked_linear(*, num_classes: int, in_channels: int, image_size: int, hidden: Count = 256) -> nn.Module:
    """Two linear layers with nothing in between: 203,530 parameters for the functions of `linear`.

    Fewer `hidden` than classes leave fewer functions: the product of the matrices has at most that rank.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, hidden), nn.Linear(hidden, num_classes))


@MODELS.register
def mlp(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    hidden: tuple[Count, ...] = (256,),
    activation: Activation = "relu",
) -> nn.Module:
    """Multilayer perceptron: for each size in `hidden` a linear layer and an activation, then the classes.

    203,530 parameters for one hidden layer of 256 and ten classes of 1×28×28 images.
    """
    sizes = (in_channels * image_size**2, *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for given, made in pairwise(sizes):
        layers += [nn.Linear(given, made), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))
