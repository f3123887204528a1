"""CUDA graphs: kernels that are recorded once and launched together, where launching them one by one takes longer.

A recording reads and writes the same memory each time, so that what is given is copied in, and what comes out lasts
until it is played again. The numbers are those of the same kernels launched one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

Function = Callable[[list[Tensor]], list[Tensor]]


def record(function: Function, inputs: list[Tensor]) -> Function:
    """A function of tensors on a CUDA device, as a recording for tensors that look like `inputs`."""
    held = [tensor.clone() for tensor in inputs]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(held)  # libraries set themselves up at a first call, which cannot be recorded
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the device
        outputs = function(held)

    def play(tensors: list[Tensor]) -> list[Tensor]:
        torch._foreach_copy_(held, tensors)
        graph.replay()
        return outputs

    return play


class RecordedCalls:
    """Calls of a model, recorded with their backward passes while it trains on a CUDA device; others as they are.

    A recording is for one size of batch, one way to compute, and the parameters that learn; it is made anew when
    these change. A smaller batch, as the last one of an epoch is, and gradients that add up to earlier ones, are
    computed as without.
    """

    def __init__(self, model: nn.Module):
        self._model = model
        self._key: Hashable = None
        self._num_images = 0
        self._play: Callable[[Tensor], Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        model = self._model
        if not can_record(images) or not model.training or adds_up(model):
            return model._call_impl(images)
        key = describe_call(model, images)
        if key == self._key and len(images) < self._num_images:
            return model._call_impl(images)
        if key != self._key or len(images) > self._num_images:
            self._play = self._key = None  # the memory of the one before is free for the next
            self._play = record_call(model, images)
            self._key, self._num_images = key, len(images)
        assert self._play is not None, "recorded just now, or before"
        return self._play(images).clone()  # the next call overwrites it


def stop_recording(model: nn.Module) -> None:
    """From now on its calls are computed as they are; the memory of a recording is free."""
    if isinstance(model._compiled_call_impl, RecordedCalls):
        model._compiled_call_impl = None


def can_record(images: Tensor) -> bool:
    return lies_here(images) and len(images) > 0 and torch.is_grad_enabled()


def lies_here(tensor: Tensor) -> bool:
    """Whether it lies on the current CUDA device: what is computed on another one would not be recorded."""
    return tensor.is_cuda and tensor.get_device() == torch.cuda.current_device()


def adds_up(model: nn.Module) -> bool:
    """Whether there are gradients already: those of a recording would overwrite them."""
    return any(p.grad is not None for p in model.parameters() if p.requires_grad)


def describe_call(model: nn.Module, images: Tensor) -> Hashable:
    """All that a recording takes for granted, the number of images apart."""
    parameters = tuple((p.data_ptr(), p.requires_grad) for p in model.parameters())
    modes = tuple(module.training for module in model.modules())
    layout = images.shape[1:], images.dtype, images.is_contiguous()
    numbers = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.backends.cudnn.allow_tf32
    return layout, numbers, parameters, modes


def record_call(model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Forward and backward pass of a model for images such as these; statistics and random streams stay as they are."""
    # The streams are others because it is recorded; what they wait for each other is little.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
    before = [buffer.clone() for buffer in model.buffers()]
    caches = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # what is cached would be recorded once and stay
    try:
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            play = torch.cuda.make_graphed_callables(_Call(model), (images.clone(),), allow_unused_input=True)
    finally:
        torch.set_autocast_cache_enabled(caches)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
    return play  # type: ignore[return-value]


class _Call(nn.Module):
    """A model in a module of its own, so that recording leaves the model as it is."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model._call_impl(images)
