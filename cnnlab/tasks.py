"""The three kinds of problem: what a network answers, and how well.

    task         labels                    outputs                     metric
    multiclass   int64 (N,), the class     (N, classes), the largest   accuracy
    binary       int64 (N,), 0 or 1        (N, 1), above 0 means 1     accuracy
    regression   float32 (N, targets)      (N, targets)                mae: mean absolute error

A dataset has a task, a loss fits some of them, and the loop does not care. Where two images were made one, classes
are `Mixed`, and losses and metrics count both; numbers are mixed themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Task = Literal["multiclass", "binary", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)
METRIC: dict[Task, str] = {"multiclass": "accuracy", "binary": "accuracy", "regression": "mae"}
SMALLEST = 1e-15  # probability, in the log loss


@dataclass(frozen=True)
class Mixed:
    """Classes of images that were each made of two: what a function says of them is the mean over both, weighted.

    Like a tensor it has a length and parts: `labels[8:16]` goes with `images[8:16]`.
    """

    first: Tensor  # int64 (N,)
    second: Tensor  # int64 (N,)
    weight: float  # of the first, the same for the whole batch; the second has the rest

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, chosen: slice) -> Mixed:
        return Mixed(self.first[chosen], self.second[chosen], self.weight)

    def average(self, function: Callable[[Tensor], Any]) -> Any:
        """What `function` makes of labels, of either kind in its share."""
        return self.weight * function(self.first) + (1 - self.weight) * function(self.second)


Labels = Tensor | Mixed


def mix_labels(labels: Tensor, partners: Tensor, weight: float) -> Labels:
    """The labels of images that are `weight` of one image and the rest of its partner."""
    if weight == 1:
        return labels
    if labels.is_floating_point():
        return partners.lerp(labels, weight)
    return Mixed(labels, partners, weight)


def add_up_score(task: Task, outputs: Tensor, labels: Labels) -> Tensor:
    """The sum over a batch of that whose mean over all images is the task's metric."""
    if isinstance(labels, Mixed):
        return labels.average(lambda some: add_up_score(task, outputs, some))
    if task == "regression":
        return (outputs - labels).abs().mean(1).sum()
    return (answer(task, outputs) == labels).sum()


def as_probabilities(task: Task, outputs: Tensor) -> Tensor:
    """A network's outputs as probabilities (N, classes); those of regression stay the numbers that they are."""
    if task == "multiclass":
        return outputs.softmax(1)
    if task == "binary":
        return torch.cat([(-outputs).sigmoid(), outputs.sigmoid()], 1)
    return outputs


def answer(task: Task, outputs: Tensor) -> Tensor:
    """The class that a network decides for, int64 (N,)."""
    return outputs.argmax(1) if task == "multiclass" else (outputs[:, 0] > 0).long()


def surprise(outputs: Tensor, labels: Tensor) -> Tensor:
    """-log p (N,) of the right answer, from the logits of the classes or from one logit."""
    if outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype), reduction="none")
    return F.cross_entropy(outputs, labels, reduction="none")


def add_up_log_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """The sum over a batch of that whose mean is the log loss, as competitions score it: no p is below 1e-15."""
    return surprise(outputs, labels).clamp(max=-math.log(SMALLEST)).sum()


def count_answers(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """How often each class (row) was answered with each class (column): int64 (classes, classes)."""
    num_classes = max(2, outputs.shape[1])
    cells = (labels * num_classes + answer(task, outputs)).flatten()
    # Unlike bincount this does not wait for the device.
    counts = torch.zeros(num_classes**2, dtype=torch.long, device=outputs.device)
    return counts.scatter_add_(0, cells, torch.ones_like(cells)).view(num_classes, num_classes)
