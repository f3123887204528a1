"""What a network is made of and what it costs: a row for each layer, and the memory of a training step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cnnlab.models.receptive_field import ReceptiveFields
from cnnlab.models.shapes import FAILURES, Shape, blank_images, shape_of, watch_layers
from cnnlab.modes import keep_modes


@dataclass(eq=False)
class Row:
    """One layer as it was called, for one image."""

    name: str
    kind: str
    in_shape: Shape = ()
    out_shape: Shape | None = None  # None: this layer failed
    parameters: int = 0  # of its own; those that an earlier row has counted are not counted again
    multiply_adds: int = 0  # of its own
    receptive_field: tuple[int, int] | None = None  # height, width; None where values have no place in the image


@dataclass(frozen=True)
class Summary:
    rows: list[Row]
    parameters: int
    multiply_adds: int
    failure: Exception | None  # what stopped the image in the last row, if anything did


def summarize(network: nn.Module, in_channels: int, image_size: int) -> Summary:
    """The rows of `network` in the order of the forward pass, and their totals.

    Multiply-adds are those that `torch.utils.flop_counter` knows: of convolutions, matrix products and
    attention. What no layer owns, such as products in the forward pass of a module with children, is in a
    last row, "(between layers)".
    """
    images = blank_images(network, 1, in_channels, image_size)
    work, fields = FlopCounterMode(display=False), ReceptiveFields(images)
    rows: list[Row] = []
    between = Row("(between layers)", "", out_shape=())
    begun = [between]
    counted: set[nn.Parameter] = set()
    charged = 0

    def charge() -> None:
        """Put the work since the last call down to the innermost layer that was computing."""
        nonlocal charged
        done = work.get_total_flops() // 2
        begun[-1].multiply_adds += done - charged
        charged = done

    def enter(name: str, module: nn.Module, inputs: Any) -> None:
        charge()
        own = set(module.parameters(recurse=False)) - counted
        counted.update(own)
        rows.append(Row(name, type(module).__name__, shape_of(inputs), parameters=count_numbers(own)))
        begun.append(rows[-1])

    def leave(output: Any) -> None:
        charge()
        row = begun.pop()
        row.out_shape = shape_of(output)
        tensor = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
        row.receptive_field = None if tensor is None else fields.size_of(tensor)

    failure = None
    try:
        with watch_layers(network, enter, leave), plain_attention(), work, fields:
            network(images)
    except FAILURES as error:
        failure = error
    charge()
    between.parameters = count_numbers(set(network.parameters()) - counted)
    if failure is None and (between.parameters or between.multiply_adds):
        rows.append(between)
    return Summary(rows, count_numbers(network.parameters()), charged, failure)


def count_training_work(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds of a forward and a backward pass over `images` (N, …), as `summarize` counts them, divided by N.

    Of the backward pass those that parameters which learn ask for. The network stays as it is.
    """
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with counting(network) as work, torch.enable_grad():
        outputs = network.forward(images)
        torch.autograd.grad(outputs.sum(), learning, allow_unused=True)
    return work.get_total_flops() // 2 // len(images)


def count_forward_work(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds of a forward pass, likewise."""
    with counting(network) as work, torch.no_grad():
        network.forward(images)
    return work.get_total_flops() // 2 // len(images)


@contextmanager
def counting(network: nn.Module) -> Iterator[FlopCounterMode]:
    """Counts what is computed inside, where the network is in evaluation mode.

    Call its `forward`: a compiled network is counted as it was written.
    """
    with keep_modes(network), plain_attention(), FlopCounterMode(display=False) as work:
        network.eval()
        yield work


@contextmanager
def plain_attention() -> Iterator[None]:
    """Keeps `nn.MultiheadAttention` from its fused form for evaluation, whose work torch does not count."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def count_numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def count_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure_activations(network: nn.Module, in_channels: int, image_size: int) -> int:
    """Bytes an image that a training step holds between its forward and its backward pass.

    Measured: the tensors that autograd keeps in a forward pass of two blank images (batch normalisation takes
    no fewer), each once, without parameters and buffers. The network stays as it is.
    """
    num_images = 2
    # Running statistics are updated by a training step: these copies take the updates.
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *buffers.values())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = blank_images(network, num_images, in_channels, image_size)
    with keep_modes(network), torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        output = functional_call(network.train(), buffers, (images,))
    del output  # until here it holds the graph, and the graph all that was kept: no address came up twice
    return sum(kept.values()) // num_images
