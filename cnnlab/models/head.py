"""The head of a network, which is its last layer, or what stands in that place; all before it is the backbone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cnnlab.errors import ConfigError


class Head(nn.Sequential):
    """Linear layers with ReLUs between them, and dropout in front of the last: (N, in_features) → (N, num_outputs)."""

    def __init__(self, in_features: int, num_outputs: int, hidden: Sequence[int], dropout: float):
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_features, width), nn.ReLU()]
            in_features = width
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        super().__init__(*layers, nn.Linear(in_features, num_outputs))


def find_head(network: nn.Module) -> str:
    """The name of what makes the logits: a `Head`, else the last linear layer, else the last convolution."""
    modules = dict(network.named_modules())
    for kind in (Head, nn.Linear, nn.Conv2d):
        found = [name for name, module in modules.items() if isinstance(module, kind)]
        if found:
            return found[-1]
    raise ConfigError("model: this network has no linear layer and no convolution that could be its head")


def replace_layer(network: nn.Module, name: str, num_outputs: int) -> None:
    """A new linear layer, or convolution, in the place of an old one, with another number of outputs."""
    old = network.get_submodule(name)
    has_bias = old.bias is not None
    if isinstance(old, nn.Linear):
        network.set_submodule(name, nn.Linear(old.in_features, num_outputs, has_bias))
    else:
        assert isinstance(old, nn.Conv2d) and old.kernel_size == (1, 1), "a classifier"
        network.set_submodule(name, nn.Conv2d(old.in_channels, num_outputs, kernel_size=1, bias=has_bias))


def replace_head(network: nn.Module, hidden: Sequence[int], dropout: float) -> None:
    """A `Head` in the place of the last layer, with as many outputs. Raises ConfigError if that is not linear."""
    name = find_head(network)
    old = network.get_submodule(name)
    if not isinstance(old, nn.Linear):
        raise ConfigError(
            f"model.head: the last layer, {name}, is a {type(old).__name__}; expected a network that ends in a linear "
            "layer, or model.head=[] and model.head_dropout=0"
        )
    network.set_submodule(name, Head(old.in_features, old.out_features, hidden, dropout))
