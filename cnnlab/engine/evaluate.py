"""A network on a set of images it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class BatchSource(Protocol):
    """What the engine asks of the data: any batch of any epoch, at any time."""

    num_examples: int
    batch_size: int

    def __len__(self) -> int: ...

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Tensor]: ...


class Metrics(NamedTuple):
    loss: float
    accuracy: float


class Sums:
    """Loss and correct answers summed on the device, read only when somebody asks: reading waits for it."""

    def __init__(self, device: torch.device):
        precise = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=precise, device=device)
        self._correct = torch.zeros((), dtype=torch.long, device=device)
        self.num_seen = 0

    def add(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Count a batch in: its mean loss, its outputs (N, classes), its labels (N,)."""
        self._loss.add_(loss.detach(), alpha=len(labels))
        self._correct.add_((outputs.detach().argmax(1) == labels).sum())
        self.num_seen += len(labels)

    def read(self) -> tuple[float, int, int]:
        return self._loss.item(), int(self._correct.item()), self.num_seen

    def set(self, loss: float, num_correct: int, num_seen: int) -> None:
        self._loss.fill_(loss)
        self._correct.fill_(num_correct)
        self.num_seen = num_seen

    def metrics(self) -> Metrics:
        loss, num_correct, num_seen = self.read()
        return Metrics(loss / num_seen, num_correct / num_seen)


def evaluate(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batches: BatchSource) -> Metrics:
    """Mean loss and accuracy over all of `batches`, in evaluation mode; the model's mode is put back."""
    was_training = model.training
    model.eval()
    sums: Sums | None = None
    try:
        with torch.inference_mode():
            for number in range(len(batches)):
                images, labels = batches.batch(0, number)
                outputs = model(images)
                sums = sums or Sums(outputs.device)
                sums.add(loss(outputs, labels), outputs, labels)
    finally:
        model.train(was_training)
    assert sums is not None, "batches hold at least one image"
    return sums.metrics()
