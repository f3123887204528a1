"""Shapes of a network, found by sending one blank image through it.

A network that ends in a flatten needs to know how many features arrive there, and an image too small
for a network has to be refused with the layer at which the map shrinks to nothing. Both are read off
a real forward pass: no second copy of each layer's arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from cnnlab.errors import ConfigError

LARGEST_SIZE = 1024  # pixels; where the search for a size that works gives up


@dataclass(frozen=True)
class Layer:
    """One leaf module as it was called: shapes are without the batch dimension."""

    name: str
    module: nn.Module
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...] | None  # None: this layer failed


def trace_shapes(network: nn.Module, in_channels: int, image_size: int) -> tuple[list[Layer], Exception | None]:
    """The leaf layers of `network` in the order of the forward pass, and what stopped it, if anything did.

    One blank image of shape (1, in_channels, image_size, image_size) is sent through in evaluation
    mode; parameters, buffers and modes stay as they are.
    """
    layers: list[Layer] = []
    modes = {module: module.training for module in network.modules()}

    def enter(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            layers.append(Layer(name, module, tuple(inputs[0].shape[1:]), None))

        return hook

    def leave(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        index = max(i for i, layer in enumerate(layers) if layer.module is module)
        entered = layers[index]
        layers[index] = Layer(entered.name, module, entered.in_shape, tuple(output.shape[1:]))

    handles = []
    for name, module in network.named_modules():
        if not any(module.children()):
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave))
    first = next(network.parameters(), None)
    blank = torch.zeros(1, in_channels, image_size, image_size, device=first.device if first is not None else None)
    failure: Exception | None = None
    try:
        network.eval()
        with torch.no_grad():
            network(blank)
    except (RuntimeError, ValueError) as error:
        failure = error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return layers, failure


def require_size(network: nn.Module, in_channels: int, image_size: int) -> list[Layer]:
    """The layers of `network` for such images; a ConfigError if its arithmetic has no room for them.

    The error names the layer, the shape that reached it, and the smallest size that works.
    """
    layers, failure = trace_shapes(network, in_channels, image_size)
    if failure is None:
        return layers
    where, advice = "its input", ""
    if layers:
        last = layers[-1]
        shape = "×".join(str(size) for size in last.in_shape)
        where = f"layer '{last.name}' ({type(last.module).__name__}), which is given {shape}"
        if isinstance(last.module, nn.Linear):  # fits one size: a larger image is no remedy
            advice = f"it has {last.module.in_features} inputs: change that number, or the image size"
    if not advice:
        smallest = _smallest_size(network, in_channels, image_size)
        advice = (
            f"the smallest image size that works is {smallest}: set dataset.image_size={smallest} or more"
            if smallest
            else f"no size up to {LARGEST_SIZE} works: {failure}"
        )
    raise ConfigError(f"model: images of {in_channels}×{image_size}×{image_size} stop at {where}; {advice}")


def flat_features(features: nn.Module, in_channels: int, image_size: int) -> int:
    """How many numbers a flattened output of `features` holds: the inputs of a linear layer behind it."""
    *_, last = require_size(features, in_channels, image_size)
    assert last.out_shape is not None
    return int(torch.Size(last.out_shape).numel())


def _smallest_size(network: nn.Module, in_channels: int, too_small: int) -> int | None:
    """The smallest size above `too_small` that passes: doubling until one does, then halving the gap."""
    low, high = too_small, too_small + 1
    while trace_shapes(network, in_channels, high)[1] is not None:
        low, high = high, 2 * high
        if high > LARGEST_SIZE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if trace_shapes(network, in_channels, middle)[1] is None:
            high = middle
        else:
            low = middle
    return high
