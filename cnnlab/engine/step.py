"""What learns, and the gradients of one step: forward and backward over a batch.

Where a batch does not fit into memory it is worked through in micro-batches. Order and size of the batch stay what
they are: each micro-batch's loss counts by its share, and the gradients accumulate to those of the whole. (Batch
normalisation takes the statistics of the micro-batches, and dropout draws for each in turn.)

Many processes divide a batch in the same way. Their gradients are added up here, after the backward pass, and
not by torch's DistributedDataParallel: so a process may have no image of a small last batch, halve its micro-batches
by itself, freeze what it likes, or be asked for gradients several times a step, and checkpoints know of no wrapper.
What that costs is that the exchange begins after the backward pass and not within it.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from cnnlab.distributed import add_up_tensors, num_processes, rank
from cnnlab.engine.compute import Compute
from cnnlab.engine.evaluate import BatchSource, Criterion
from cnnlab.engine.frozen import Frozen
from cnnlab.engine.network import Network
from cnnlab.engine.state import Row, State
from cnnlab.engine.timing import StepTimes
from cnnlab.errors import MemoryShortage
from cnnlab.graphs import stop_recording
from cnnlab.modes import keep_modes
from cnnlab.seeds import seed_step
from cnnlab.tasks import Labels
from cnnlab.threads import unchanged_threads

ComputeGradients = Callable[[], tuple[Tensor, Tensor]]  # over one batch → outputs, loss; leaves gradients


class Average(Protocol):
    """An average of the weights over the steps, which is what is evaluated and kept; or the plain weights."""

    def update(self, step: int) -> None: ...

    @property
    def averaged(self) -> Callable[[], AbstractContextManager[None]]: ...  # inside, it is in the model's place

    def state_dict(self) -> dict[str, Any]: ...  # asked for inside `averaged`

    def load_state_dict(self, stored: dict[str, Any]) -> None: ...  # with the averaged weights in the model


@dataclass(frozen=True)
class Training:
    """The objects that learn and what they learn from. Test data is not among them: nothing can select on it."""

    network: Network
    criterion: Criterion
    optimizer: Optimizer
    plain_step: Callable[[ComputeGradients], None]  # of the optimizer
    schedule: Callable[[int, list[Row]], float]  # step, rows so far → multiplier of the learning rate
    average: Average
    train: BatchSource
    valid: BatchSource | None  # chooses the best checkpoint
    seed: int
    clip_norm: float | None = None  # of all gradients together
    clip_value: float | None = None  # of each number
    frozen: tuple[Frozen, ...] = ()  # what does not learn, not yet or no more
    can_cut: bool = True  # batches into micro-batches, where memory runs out
    learn_hardest: float | None = None  # the share of a batch that is learned from: see `hardest.py`
    scaler: GradScaler | None = None  # of the loss, where gradients in float16 would vanish
    times: StepTimes = field(default_factory=StepTimes)
    metrics: tuple[str, ...] = ()  # of evaluations, on request

    @property
    def model(self) -> nn.Module:
        return self.network.model

    @property
    def device(self) -> torch.device:
        return self.network.device

    def computed_as(self, compute: Compute) -> Training:
        """The same training, from now on in this way; the model is changed in place."""
        scaler = GradScaler(self.device.type) if compute.precision == "fp16" else None
        return replace(self, network=self.network.computed_as(compute), scaler=scaler)

    def take_step(self, learn: ComputeGradients) -> None:
        """Move the weights by the gradients that `learn` has left, or asks for once more.

        Where a scaled gradient overflowed the step is left out, and the scale follows.
        """
        if self.scaler is None:
            self.plain_step(learn)
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


def compute_gradients(training: Training, images: Tensor, labels: Labels, state: State) -> tuple[Tensor, Tensor]:
    """Outputs and mean loss of a batch; its gradients, clipped, in the parameters. The same for the same `state.step`.

    Of many processes each is given a share of the batch and returns the outputs of that share; loss and gradients
    are those of the whole batch.

    Where memory runs out the batch is cut in halves, quarters and so on; `state.micro_batch_size` remembers it.
    Raises MemoryShortage if it cannot be cut further.
    """
    while True:
        size = state.micro_batch_size or len(labels)
        try:
            outputs, loss = accumulate_gradients(training, images, labels, state.step, size)
            break
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            if not is_out_of_memory(error):
                raise
            if min(size, len(labels)) <= 1 or not training.can_cut:
                raise MemoryShortage(explain_shortage(training, size, error)) from error
            state.micro_batch_size = -(-min(size, len(labels)) // 2)
        stop_recording(training.model)
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
    """Forward and backward over micro-batches of at most `size` images, the gradients accumulating to the batch's.

    They are as equal as can be, so that none is so small that batch normalisation has no statistics.
    Of many processes each counts by what it has of a full batch; `add_up_processes` goes on from there.
    """
    t = training
    seed_step(t.device, t.seed, "dropout", step, *([rank()] if rank() else []))
    for part in t.frozen:
        part.hold(step)
    for group in t.optimizer.param_groups:  # as zero_grad does, without its bookkeeping
        for parameter in group["params"]:
            parameter.grad = None
    alone = num_processes() == 1
    if alone and size >= len(labels):
        outputs, loss = compute_loss(t, images, labels)
        backpropagate(t, loss)
        return outputs, loss
    whole = t.criterion.weigh(labels) if alone else t.train.batch_size
    parts, losses = [], []
    num_parts = max(1, -(-len(labels) // max(size, 1)))  # no images are one, whose gradients are zeros
    bounds = [len(labels) * number // num_parts for number in range(num_parts + 1)]
    for micro in map(slice, bounds, bounds[1:]):
        outputs, loss = compute_loss(t, images[micro], labels[micro])
        loss = loss * (t.criterion.weigh(labels[micro]) / whole)
        backpropagate(t, loss)
        parts.append(outputs.detach())
        losses.append(loss.detach())
    return torch.cat(parts), torch.stack(losses).sum()


def add_up_processes(training: Training, loss: Tensor, labels: Labels) -> Tensor:
    """The loss of the whole batch, from this process's part of it; the parameters' gradients likewise."""
    weight = torch.as_tensor(training.criterion.weigh(labels), dtype=loss.dtype) / training.train.batch_size
    sums = torch.stack([loss.detach(), loss.new_ones(()) * weight])
    gradients = [p.grad for group in training.optimizer.param_groups for p in group["params"] if p.grad is not None]
    add_up_tensors([sums, *gradients])
    loss, weight = sums
    torch._foreach_div_(gradients, weight)
    return loss / weight


def compute_loss(training: Training, images: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """Outputs and mean loss, the loss always in float32; zero for no images."""
    outputs = training.network(images)
    loss = training.criterion(outputs, labels) if len(labels) else outputs.sum()
    training.times.end("forward")
    return outputs, loss


def backpropagate(training: Training, loss: Tensor) -> None:
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
    """Whether an allocator raised it; that of the CPU has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def explain_shortage(training: Training, size: int, error: RuntimeError) -> str:
    reason = str(error).strip().partition("\n")[0]
    remedy = "a smaller dataset.image_size or network, or another engine.device"
    if not training.can_cut:
        remedy = f"a smaller batch_size, engine.sync_batch_norm=false, {remedy}"
    return f"memory ran out with {size} images at once ({reason}); expected less to hold: {remedy}"


@contextmanager
def unchanged(training: Training) -> Iterator[None]:
    """Steps may be taken inside; then all is as before: weights and where they lie, optimizer, random streams."""
    model, optimizer = training.model, training.optimizer
    before = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    tensors = {tensor: tensor.data for tensor in (*model.parameters(), *model.buffers())}
    compiled = model._compiled_call_impl
    devices = [training.device] if training.device.type == "cuda" else []
    try:
        with keep_modes(model), torch.random.fork_rng(devices), unchanged_threads():
            model.train()
            yield
    finally:
        model._compiled_call_impl = compiled
        for tensor, data in tensors.items():
            tensor.data = data
            tensor.grad = None
        model.load_state_dict(before["model"])
        optimizer.load_state_dict(before["optimizer"])
