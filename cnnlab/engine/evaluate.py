"""A network on a set of images it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cnnlab.tasks import Labels, Task, add_up_log_loss, add_up_score, count_answers


class BatchSource(Protocol):
    """What the engine asks of the data: any batch of any epoch, at any time."""

    num_examples: int
    batch_size: int

    def __len__(self) -> int: ...

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Labels]: ...


class Metrics(NamedTuple):
    """Means over all images, those that the task has; and for classes how often each was taken for each."""

    loss: float
    accuracy: float | None = None
    mae: float | None = None
    log_loss: float | None = None
    confusion: Tensor | None = None  # int64 (classes, classes): a row each class, a column each answer

    def as_dict(self) -> dict[str, float]:
        """The single numbers."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, float)}


class Sums:
    """Loss and score summed on the device, read only when somebody asks: reading waits for it."""

    def __init__(self, device: torch.device, task: Task):
        self._task = task
        self._loss = torch.zeros((), dtype=precise_type(device), device=device)
        self._score = torch.zeros((), dtype=precise_type(device), device=device)
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
        if self._task == "regression":
            return Metrics(loss / num_seen, mae=score / num_seen)
        return Metrics(loss / num_seen, accuracy=score / num_seen)


class Answers:
    """What a network answers where labels are classes, counted on the device as `Sums` does."""

    def __init__(self, device: torch.device, task: Task, num_outputs: int):
        self._task = task
        num_classes = max(2, num_outputs)
        self._log_loss = torch.zeros((), dtype=precise_type(device), device=device)
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.long, device=device)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        self._log_loss.add_(add_up_log_loss(outputs, labels))
        self._confusion.add_(count_answers(self._task, outputs, labels))

    def add_to(self, metrics: Metrics) -> Metrics:
        confusion = self._confusion.cpu()
        return metrics._replace(log_loss=self._log_loss.item() / int(confusion.sum()), confusion=confusion)


def precise_type(device: torch.device) -> torch.dtype:
    """The floating-point type with most digits that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Labels], Tensor],
    batches: BatchSource,
    task: Task = "multiclass",
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Metrics:
    """Mean loss and the task's metrics over all of `batches`, in evaluation mode; every layer's mode is put back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    sums: Sums | None = None
    answers: Answers | None = None
    try:
        with torch.inference_mode():
            for number in range(len(batches)):
                images, labels = batches.batch(0, number)
                with autocast():
                    outputs = model(images)
                outputs = outputs.float()
                sums = sums or Sums(outputs.device, task)
                sums.add(loss(outputs, labels), outputs, labels)
                if task != "regression":
                    assert isinstance(labels, Tensor), "nothing is mixed in an evaluation"
                    answers = answers or Answers(outputs.device, task, outputs.shape[1])
                    answers.add(outputs, labels)
    finally:
        for module, mode in modes.items():
            module.training = mode
    assert sums is not None, "batches hold at least one image"
    return answers.add_to(sums.metrics()) if answers else sums.metrics()
