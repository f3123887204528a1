"""A network on a set of images it does not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cnnlab.distributed import add_up, copy_from_main, gather, is_main, num_processes, rank
from cnnlab.engine.network import Network
from cnnlab.metrics import measure
from cnnlab.tasks import Classification, Labels, Task


class BatchSource(Protocol):
    """What the engine asks of the data: any batch of any epoch, at any time."""

    @property
    def num_examples(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def __len__(self) -> int: ...

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Labels]: ...


class Criterion(Protocol):
    """A loss as the engine calls it."""

    def __call__(self, outputs: Tensor, labels: Labels) -> Tensor:
        """The mean loss of a batch."""
        ...

    def weigh(self, labels: Labels) -> float | Tensor:
        """What that mean divides by: how much these images count among others."""
        ...


@dataclass(frozen=True)
class Metrics:
    """Means over all images, by the names that the task has for them; and how often each class was taken for each."""

    values: Mapping[str, float]
    confusion: Tensor | None = field(default=None, compare=False)  # int64 (classes, classes): a row each class

    def __getitem__(self, name: str) -> float:
        return self.values[name]


class Sums:
    """Loss and score summed on the device, read only when somebody asks: reading waits for it.

    Each process counts what it sees; `set` and `read` are about all of them together, and called by all.
    """

    def __init__(self, device: torch.device, task: Task):
        self._task = task
        self._loss = torch.zeros((), dtype=precise_type(device), device=device)
        self._score = torch.zeros((), dtype=precise_type(device), device=device)
        self.num_seen = 0

    def add(self, loss: Tensor, outputs: Tensor, labels: Labels) -> None:
        """Count a batch in: its mean loss, its outputs and its labels."""
        self._loss.add_(loss.detach(), alpha=len(labels))
        self._score.add_(self._task.add_up_score(outputs.detach(), labels))
        self.num_seen += len(labels)

    def read(self) -> tuple[float, float, int]:
        loss, score, num_seen = add_up(self._loss.item(), self._score.item(), self.num_seen)
        return loss, score, int(num_seen)

    def set(self, loss: float, score: float, num_seen: int) -> None:
        self._loss.fill_(loss if is_main() else 0.0)
        self._score.fill_(score if is_main() else 0.0)
        self.num_seen = num_seen if is_main() else 0

    def means(self) -> dict[str, float]:
        """The mean loss and the mean score, by their names."""
        loss, score, num_seen = self.read()
        return {"loss": loss / num_seen, self._task.score: score / num_seen}


class ClassCounts:
    """Which class is taken for which, and the log loss, counted on the device as `Sums` does."""

    def __init__(self, device: torch.device, task: Classification, num_outputs: int):
        self._task = task
        num_classes = max(2, num_outputs)
        self._log_loss = torch.zeros((), dtype=precise_type(device), device=device)
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.long, device=device)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        self._log_loss.add_(self._task.add_up_log_loss(outputs, labels))
        self._confusion.add_(self._task.count_confusion(outputs, labels))

    def read(self) -> tuple[float, Tensor]:
        return self._log_loss.item(), self._confusion.cpu()


def add_class_counts(means: dict[str, float], counts: ClassCounts | None) -> Metrics:
    """With what is counted by class, of all processes together; one that has had no batch has no `counts`."""
    counted = [read for read in gather(counts.read() if counts else None) if read is not None]
    if not counted:
        return Metrics(means)
    confusion = torch.stack([each for _, each in counted]).sum(0)
    log_loss = sum(each for each, _ in counted) / int(confusion.sum())
    return Metrics({**means, "log_loss": log_loss}, confusion)


def precise_type(device: torch.device) -> torch.dtype:
    """The floating-point type with most digits that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def evaluate(network: Network, criterion: Criterion, batches: BatchSource, extra: Sequence[str] = ()) -> Metrics:
    """Mean loss and the task's metrics over all of `batches`, in evaluation mode; every layer's mode is put back.

    `extra` are the metrics of `metrics.py` that are wanted beside.

    Of many processes each takes some of the batches, with the main one's statistics of batch normalisation.
    """
    model, task = network.model, network.task
    modes = {module: module.training for module in model.modules()}
    model.eval()
    copy_from_main(model.buffers())
    sums = Sums(network.device, task)
    counts: ClassCounts | None = None
    kept: list[tuple[np.ndarray, np.ndarray]] = []  # probabilities and labels, where a metric needs them all
    try:
        with torch.inference_mode():
            for number in range(rank(), len(batches), num_processes()):
                images, labels = batches.batch(0, number)
                outputs = network(images)
                sums.add(criterion(outputs, labels), outputs, labels)
                if isinstance(task, Classification):
                    assert isinstance(labels, Tensor), "nothing is mixed in an evaluation"
                    counts = counts or ClassCounts(network.device, task, outputs.shape[1])
                    counts.add(outputs, labels)
                    if extra:
                        kept.append((task.to_scores(outputs.cpu().double()).numpy(), labels.cpu().numpy()))
    finally:
        for module, mode in modes.items():
            module.training = mode
    metrics = add_class_counts(sums.means(), counts)
    if not extra:
        return metrics
    everywhere = [batch for part in gather(kept) for batch in part]
    probabilities, known = (np.concatenate(column) for column in zip(*everywhere, strict=True))
    return replace(metrics, values={**metrics.values, **measure(extra, probabilities, known)})
