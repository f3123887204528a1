"""What learns, and the gradients of one step: forward and backward over a batch.

Where a batch does not fit into memory it is cut into pieces. Order and size of the batch stay what they are:
each piece's loss counts by its share, and the gradients add up to those of the whole. (Batch normalisation
takes the statistics of the pieces, and dropout draws for each in turn.)

Many processes divide a batch in the same way. Their gradients are added up here, behind the backward pass, and
not by torch's DistributedDataParallel: so a process may have no image of a small last batch, halve its pieces by
itself, freeze what it likes, or be asked for gradients several times a step, and checkpoints know of no wrapper.
What that costs is that the exchange begins behind the backward pass and not within it.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from cnnlab.distributed import add_up_tensors, num_processes, rank
from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.frozen import Frozen
from cnnlab.engine.state import Row, State
from cnnlab.engine.timing import StepTimes
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
    may_cut: bool = True  # batches in pieces, where memory runs out
    scaler: GradScaler | None = None  # of the loss, where gradients in float16 would vanish
    times: StepTimes = field(default_factory=StepTimes)


def compute_gradients(training: Training, images: Tensor, labels: Labels, state: State) -> tuple[Tensor, Tensor]:
    """Outputs and mean loss of a batch; its gradients, clipped, in the parameters. The same for the same `state.step`.

    Of many processes each is given a share of the batch and returns the outputs of that share; loss and gradients
    are those of the whole batch.

    Where memory runs out the batch is cut in halves, quarters and so on; `state.micro_batch_size` remembers it.
    Raises what the allocator raised if a single image does not fit.
    """
    while True:
        size = state.micro_batch_size or len(labels)
        try:
            outputs, loss = accumulate_gradients(training, images, labels, state.step, size)
            break
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            if not is_out_of_memory(error) or min(size, len(labels)) <= 1 or not training.may_cut:
                raise
            state.micro_batch_size = -(-min(size, len(labels)) // 2)
        gc.collect()  # the failed pass is held by nothing any more
        if training.device.type == "cuda":
            torch.cuda.empty_cache()
    if num_processes() > 1:
        loss = add_up_processes(training, loss, labels)
    if training.scaler is not None:
        training.scaler.unscale_(training.optimizer)
    clip_gradients(training)
    return outputs, loss


def accumulate_gradients(
    training: Training, images: Tensor, labels: Labels, step: int, size: int
) -> tuple[Tensor, Tensor]:
    """Forward and backward over pieces of at most `size` images, the gradients adding up to the batch's.

    Of many processes each counts by what it has of a full batch; `add_up_processes` goes on from there.
    """
    t = training
    seed_step(t.device, t.seed, "dropout", step, *([rank()] if rank() else []))
    if t.frozen is not None:
        t.frozen.hold(step)
    for group in t.optimizer.param_groups:  # as zero_grad does, without its bookkeeping
        for parameter in group["params"]:
            parameter.grad = None
    alone = num_processes() == 1
    if alone and size >= len(labels):
        outputs, loss = compute_loss(t, images, labels)
        go_back(t, loss)
        return outputs, loss
    whole = t.weigh(labels) if alone else t.train.batch_size
    pieces, losses = [], []
    for start in range(0, max(len(labels), 1), max(size, 1)):  # no images are one piece, whose gradients are zeros
        piece = slice(start, start + size)
        outputs, loss = compute_loss(t, images[piece], labels[piece])
        loss = loss * (t.weigh(labels[piece]) / whole)
        go_back(t, loss)
        pieces.append(outputs.detach())
        losses.append(loss.detach())
    return torch.cat(pieces), torch.stack(losses).sum()


def add_up_processes(training: Training, loss: Tensor, labels: Labels) -> Tensor:
    """The loss of the whole batch, from this process's part of it; the parameters' gradients likewise."""
    weight = torch.as_tensor(training.weigh(labels), dtype=loss.dtype) / training.train.batch_size
    sums = torch.stack([loss.detach(), loss.new_ones(()) * weight])
    gradients = [p.grad for group in training.optimizer.param_groups for p in group["params"] if p.grad is not None]
    add_up_tensors([sums, *gradients])
    loss, weight = sums
    torch._foreach_div_(gradients, weight)
    return loss / weight


def compute_loss(training: Training, images: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """Outputs and mean loss, the loss always in float32; zero for no images."""
    with training.autocast():
        outputs = training.model(images)
    outputs = outputs.float()
    loss = training.loss(outputs, labels) if len(labels) else outputs.sum()
    training.times.end("forward")
    return outputs, loss


def go_back(training: Training, loss: Tensor) -> None:
    """The backward pass of a loss, scaled where the precision asks for it."""
    scaled: Tensor = loss if training.scaler is None else training.scaler.scale(loss)
    scaled.backward()
    training.times.end("backward")


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


@contextmanager
def unchanged(training: Training) -> Iterator[None]:
    """Steps may be taken inside; then all is as before: weights and where they lie, optimizer, random streams."""
    model, optimizer = training.model, training.optimizer
    before = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    tensors = {tensor: tensor.data for tensor in (*model.parameters(), *model.buffers())}
    modes = {module: module.training for module in model.modules()}
    compiled = model._compiled_call_impl
    model.train()
    devices = [training.device] if training.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        model._compiled_call_impl = compiled
        for tensor, data in tensors.items():
            tensor.data = data
            tensor.grad = None
        for module, mode in modes.items():
            module.training = mode
        model.load_state_dict(before["model"])
        optimizer.load_state_dict(before["optimizer"])
