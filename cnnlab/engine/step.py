"""What learns, and the gradients of one step: forward and backward over a batch.

Where a batch does not fit into memory it is cut into pieces. Order and size of the batch stay what they are:
each piece's loss counts by its share, and the gradients add up to those of the whole. (Batch normalisation
takes the statistics of the pieces, and dropout draws for each in turn.)
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.frozen import Frozen
from cnnlab.engine.state import Row, State
from cnnlab.runtime import seed_step
from cnnlab.tasks import Labels, Task

Pass = Callable[[], tuple[Tensor, Tensor]]  # forward and backward over one batch → outputs, loss


class Average(Protocol):
    """An average of the weights over the steps, that takes the model's place where it is evaluated and kept."""

    def update(self, step: int) -> None: ...

    def averaged(self) -> AbstractContextManager[None]: ...

    def state_dict(self) -> dict[str, Any]: ...  # asked for inside `averaged`

    def load_state_dict(self, stored: dict[str, Any]) -> None: ...  # with the averaged weights in the model


@dataclass(frozen=True)
class Training:
    """The objects that learn and what they learn from. Test data is not among them: nothing can select on it."""

    model: nn.Module
    loss: Callable[[Tensor, Labels], Tensor]
    optimizer: Optimizer
    take_step: Callable[[Pass], None]  # of the optimizer
    schedule: Callable[[int, list[Row]], float]  # step, rows so far → multiplier of the learning rate
    train: BatchSource
    valid: BatchSource | None  # chooses the best checkpoint
    device: torch.device
    seed: int
    task: Task = "multiclass"
    weigh: Callable[[Labels], float | Tensor] = len  # labels → what the loss divides by: how much a piece counts
    clip_norm: float | None = None  # of all gradients together
    clip_value: float | None = None  # of each number
    average: Average | None = None
    averaged: Callable[[], AbstractContextManager[None]] = nullcontext  # inside, the weights to evaluate and keep
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext  # inside, the precision of forward passes
    frozen: Frozen | None = None  # what does not learn, or not yet


def compute_gradients(training: Training, images: Tensor, labels: Labels, state: State) -> tuple[Tensor, Tensor]:
    """Outputs and mean loss of a batch; its gradients, clipped, in the parameters. The same for the same `state.step`.

    Where memory runs out the batch is cut in halves, quarters and so on; `state.micro_batch_size` remembers it.
    Raises what the allocator raised if a single image does not fit.
    """
    while True:
        size = state.micro_batch_size or len(labels)
        try:
            outputs, loss = accumulate_gradients(training, images, labels, state.step, size)
            break
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            if not is_out_of_memory(error) or min(size, len(labels)) == 1:
                raise
            state.micro_batch_size = -(-min(size, len(labels)) // 2)
        gc.collect()  # the failed pass is held by nothing any more
        if training.device.type == "cuda":
            torch.cuda.empty_cache()
    clip_gradients(training)
    return outputs, loss


def accumulate_gradients(
    training: Training, images: Tensor, labels: Labels, step: int, size: int
) -> tuple[Tensor, Tensor]:
    """Forward and backward over pieces of at most `size` images, the gradients adding up to the batch's."""
    t = training
    seed_step(t.device, t.seed, "dropout", step)
    if t.frozen is not None:
        t.frozen.hold(step)
    for group in t.optimizer.param_groups:  # as zero_grad does, without its bookkeeping
        for parameter in group["params"]:
            parameter.grad = None
    if size >= len(labels):
        outputs, loss = compute_loss(t, images, labels)
        loss.backward()
        return outputs, loss
    whole = t.weigh(labels)
    pieces, losses = [], []
    for start in range(0, len(labels), size):
        piece = slice(start, start + size)
        outputs, loss = compute_loss(t, images[piece], labels[piece])
        loss = loss * (t.weigh(labels[piece]) / whole)
        loss.backward()
        pieces.append(outputs.detach())
        losses.append(loss.detach())
    return torch.cat(pieces), torch.stack(losses).sum()


def compute_loss(training: Training, images: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """Outputs and mean loss, the loss always in float32."""
    with training.autocast():
        outputs = training.model(images)
    outputs = outputs.float()
    return outputs, training.loss(outputs, labels)


def clip_gradients(training: Training) -> None:
    """Bound each number, then the norm of all gradients together, where that is asked for."""
    if training.clip_value is None and training.clip_norm is None:
        return
    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    if training.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, training.clip_value)
    if training.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, training.clip_norm)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator raised it; that of the processor has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
