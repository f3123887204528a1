"""Shapes of a network, found by sending one blank image through it.

A network that ends in a flatten needs to know how many features arrive there, and an image too small
for a network has to be refused with the layer at which the map shrinks to nothing. Both are read off
a real forward pass: no second copy of each layer's arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from cnnlab.errors import ConfigError
from cnnlab.modes import keep_modes

LARGEST_SIZE = 1024  # pixels; where the search for a size that works gives up
FAILURES = (RuntimeError, ValueError, AssertionError)  # what a forward pass raises over a wrong shape

Shape = tuple[int, ...]


@dataclass(eq=False)
class Layer:
    """One layer as it was called: shapes are without the batch dimension, () where there was no tensor."""

    name: str
    module: nn.Module
    in_shape: Shape
    out_shape: Shape | None  # None: this layer failed


@contextmanager
def watch_layers(
    network: nn.Module, enter: Callable[[str, nn.Module, Any], None], leave: Callable[[Any], None]
) -> Iterator[None]:
    """Within, each layer calls `enter(name, module, inputs)` before it computes and `leave(output)` after it.

    A layer is a module without children, or with parameters of its own beside them. Meanwhile the network is in
    evaluation mode and no gradients are recorded.
    """

    def before(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: enter(name, module, (args, kwargs))

    handles = []
    for name, module in network.named_modules():
        is_leaf = next(module.children(), None) is None
        if is_leaf or next(module.parameters(recurse=False), None) is not None:
            handles.append(module.register_forward_pre_hook(before(name or "(network)"), with_kwargs=True))
            handles.append(module.register_forward_hook(lambda module, inputs, output: leave(output)))
    try:
        with keep_modes(network), torch.no_grad():
            network.eval()
            yield
    finally:
        for handle in handles:
            handle.remove()


def blank_images(network: nn.Module, num_images: int, in_channels: int, image_size: int) -> torch.Tensor:
    """Zeros of shape (num_images, in_channels, image_size, image_size) on the device of the network."""
    first = next(network.parameters(), None)
    device = first.device if first is not None else None
    return torch.zeros(num_images, in_channels, image_size, image_size, device=device)


def shape_of(value: Any) -> Shape:
    """The shape of the first tensor in what a layer is given or returns, without the batch dimension."""
    return next((tuple(leaf.shape[1:]) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)), ())


def write_shape(shape: Shape) -> str:
    return "×".join(str(size) for size in shape)


def trace_shapes(network: nn.Module, in_channels: int, image_size: int) -> tuple[list[Layer], Exception | None]:
    """The layers of `network` in the order of the forward pass, and what stopped it, if anything did.

    One blank image of shape (1, in_channels, image_size, image_size) is sent through in evaluation
    mode; parameters, buffers and modes stay as they are.
    """
    layers: list[Layer] = []
    begun: list[Layer] = []

    def enter(name: str, module: nn.Module, inputs: Any) -> None:
        layers.append(Layer(name, module, shape_of(inputs), None))
        begun.append(layers[-1])

    def leave(output: Any) -> None:
        begun.pop().out_shape = shape_of(output)

    try:
        with watch_layers(network, enter, leave):
            network(blank_images(network, 1, in_channels, image_size))
    except FAILURES as error:
        return layers, error
    return layers, None


def require_size(network: nn.Module, in_channels: int, image_size: int) -> list[Layer]:
    """The layers of `network` for such images; a ConfigError if its arithmetic has no room for them.

    The error names the layer, the shape that reached it, and the smallest size that works.
    """
    layers, failure = trace_shapes(network, in_channels, image_size)
    if failure is None:
        return layers
    where, advice = "its input", ""
    if layers:
        last = next((layer for layer in reversed(layers) if layer.out_shape is None), layers[-1])
        where = f"layer '{last.name}' ({type(last.module).__name__}), which is given {_explain_features(layers, last)}"
        if isinstance(last.module, nn.Linear):  # fits one size: a larger image is no remedy
            advice = f"it has {last.module.in_features} inputs: change that number, or the image size"
    if not advice:
        smallest = _smallest_size(network, in_channels, image_size)
        advice = (
            f"the smallest image size that works is {smallest}: set dataset.image_size={smallest} or more"
            if smallest
            else f"no larger size that was tried works, up to {LARGEST_SIZE}: {failure}"
        )
    raise ConfigError(f"model: images of {in_channels}×{image_size}×{image_size} stop at {where}; {advice}")


def _explain_features(layers: list[Layer], last: Layer) -> str:
    """What `last` is given: "32×7×7", or "1568 = 32·7·7" where a map was flattened just before it."""
    index = layers.index(last)
    if len(last.in_shape) == 1 and index > 0:
        before = layers[index - 1]
        for shape in (before.out_shape or (), before.in_shape):
            if len(shape) > 1 and math.prod(shape) == last.in_shape[0]:
                return f"{last.in_shape[0]} = {'·'.join(str(size) for size in shape)}"
    return write_shape(last.in_shape)


def flat_features(features: nn.Module, in_channels: int, image_size: int) -> int:
    """How many numbers a flattened output of `features` holds: the inputs of a linear layer after it."""
    *_, last = require_size(features, in_channels, image_size)
    assert last.out_shape is not None
    return math.prod(last.out_shape)


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
