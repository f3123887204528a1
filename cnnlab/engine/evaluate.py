"""A network on a set of images it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cnnlab.tasks import METRIC, Labels, Task, add_up_score


class BatchSource(Protocol):
    """What the engine asks of the data: any batch of any epoch, at any time."""

    num_examples: int
    batch_size: int
    channels_last: bool  # the memory format of the images

    def __len__(self) -> int: ...

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Labels]: ...


class Metrics(NamedTuple):
    """Means over all images; of the last two the one that the task has."""

    loss: float
    accuracy: float | None = None
    mae: float | None = None

    def as_dict(self) -> dict[str, float]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class Sums:
    """Loss and score summed on the device, read only when somebody asks: reading waits for it."""

    def __init__(self, device: torch.device, task: Task):
        self._task = task
        precise = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=precise, device=device)
        self._score = torch.zeros((), dtype=precise, device=device)
        self.num_seen = 0

    def add(self, loss: Tensor, outputs: Tensor, labels: Labels) -> None:
        """Count a batch in: its mean loss, its outputs and its labels."""
        self._loss.add_(loss.detach(), alpha=len(labels))
        self._score.add_(add_up_score(self._task, outputs.detach(), labels))
        self.num_seen += len(labels)

    def read(self) -> tuple[float, float, int]:
        return self._loss.item(), self._score.item(), self.num_seen

    def set(self, loss: float, score: float, num_seen: int) -> None:
        self._loss.fill_(loss)
        self._score.fill_(score)
        self.num_seen = num_seen

    def metrics(self) -> Metrics:
        loss, score, num_seen = self.read()
        return Metrics(loss / num_seen, **{METRIC[self._task]: score / num_seen})


def evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Labels], Tensor],
    batches: BatchSource,
    task: Task = "multiclass",
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Metrics:
    """Mean loss and the task's metric over all of `batches`, in evaluation mode; the model's mode is put back."""
    was_training = model.training
    model.eval()
    sums: Sums | None = None
    try:
        with torch.inference_mode():
            for number in range(len(batches)):
                images, labels = batches.batch(0, number)
                with autocast():
                    outputs = model(images)
                outputs = outputs.float()
                sums = sums or Sums(outputs.device, task)
                sums.add(loss(outputs, labels), outputs, labels)
    finally:
        model.train(was_training)
    assert sums is not None, "batches hold at least one image"
    return sums.metrics()
