"""The four kinds of problem: what a network's outputs mean, how well they fit, and the columns that tell it.

    task         labels                    outputs                     score
    multiclass   int64 (N,), the class     (N, classes), the largest   accuracy
    binary       int64 (N,), 0 or 1        (N, 1), above 0 means 1     accuracy
    multilabel   float32 (N, labels), 0/1  (N, labels), above 0 means  label_accuracy: the share of labels that are
                                           that it has the label       right
    regression   float32 (N, targets)      (N, targets)                mae: mean absolute error

A dataset has a task, a loss fits some of them, and the loop does not care. Where two images were made one, classes
are `Mixed`, and losses and scores count both; numbers are mixed themselves.

A task knows its metrics, of those that `metrics.py` names, and so the columns of metrics.csv: what the loop writes,
what is selected by, drawn and compared, all ask it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.metrics import OF_CLASSES, OF_LABELS, OF_NUMBERS, f1

LEAST_PROBABILITY = 1e-15  # in the log loss


# --- Labels ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixed:
    """Classes of images that were each made of two: what a function says of them is the mean over both, weighted.

    Like a tensor it has a length and parts: `labels[8:16]` goes with `images[8:16]`, and so do chosen ones.
    """

    first: Tensor  # int64 (N,)
    second: Tensor  # int64 (N,)
    weight: float  # of the first, the same for the whole batch; the second has the rest

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, chosen: slice | Tensor) -> Mixed:
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


def surprise(outputs: Tensor, labels: Tensor) -> Tensor:
    """-log p (N,) of the right class, from the logits of the classes or from one logit."""
    if outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype), reduction="none")
    return F.cross_entropy(outputs, labels, reduction="none")


# --- Tasks ----------------------------------------------------------------------------------------------


class Task(ABC):
    """One of the four, by what they have in common. `score` is the metric that is counted in training as well."""

    name: str
    score: str
    metrics: tuple[str, ...]  # of an evaluation
    selects_by: str  # the column that one wants to be good at
    has_classes: bool  # of which each image is of one
    has_probabilities: bool

    def __str__(self) -> str:
        return self.name

    @property
    def train_columns(self) -> tuple[str, ...]:
        return ("train_loss", f"train_{self.score}")

    @property
    def valid_columns(self) -> tuple[str, ...]:
        return tuple(f"valid_{metric}" for metric in self.metrics)

    @abstractmethod
    def add_up_score(self, outputs: Tensor, labels: Labels) -> Tensor:
        """The sum over a batch of that whose mean over all images is the score."""

    @abstractmethod
    def to_scores(self, outputs: Tensor) -> Tensor:
        """Outputs as they are told: the probability of each class (N, classes), or the numbers themselves."""


class Classification(Task):
    """Labels are classes."""

    score = "accuracy"
    metrics = OF_CLASSES
    selects_by = "valid_accuracy"
    has_classes = True
    has_probabilities = True

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """The class that is predicted, int64 (N,)."""

    def add_up_score(self, outputs: Tensor, labels: Labels) -> Tensor:
        if isinstance(labels, Mixed):
            return labels.average(lambda some: self.add_up_score(outputs, some))
        return (self.predict(outputs) == labels).sum()

    def add_up_log_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The sum over a batch of that whose mean is the log loss, as competitions score it: no p is below 1e-15."""
        return surprise(outputs, labels).clamp(max=-math.log(LEAST_PROBABILITY)).sum()

    def count_confusion(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How often each class (row) was taken for each class (column): int64 (classes, classes)."""
        num_classes = max(2, outputs.shape[1])
        cells = (labels * num_classes + self.predict(outputs)).flatten()
        # Unlike bincount this does not wait for the device.
        counts = torch.zeros(num_classes**2, dtype=torch.long, device=outputs.device)
        return counts.scatter_add_(0, cells, torch.ones_like(cells)).view(num_classes, num_classes)


def count_hits(confusion: Tensor) -> Tensor:
    """How many images each class was rightly and wrongly told of, and how many of it were missed: int64 (3, classes).

    `confusion` (classes, classes) has a row each class, a column each prediction.
    """
    right = confusion.diagonal()
    return torch.stack([right, confusion.sum(0) - right, confusion.sum(1) - right])


class Multiclass(Classification):
    """One of several classes: a logit for each."""

    name = "multiclass"

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(1)

    def to_scores(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)


class Binary(Classification):
    """One of two classes: the logit of the second."""

    name = "binary"

    def predict(self, outputs: Tensor) -> Tensor:
        return (outputs[:, 0] > 0).long()

    def to_scores(self, outputs: Tensor) -> Tensor:
        return torch.cat([(-outputs).sigmoid(), outputs.sigmoid()], 1)


class MultiLabel(Task):
    """Any number of labels an image, a logit for each."""

    name = "multilabel"
    score = "label_accuracy"
    metrics = OF_LABELS
    selects_by = "valid_macro_f1"
    has_classes = False
    has_probabilities = True

    def add_up_score(self, outputs: Tensor, labels: Labels) -> Tensor:
        assert isinstance(labels, Tensor), "labels of two images are mixed as numbers are"
        return ((outputs > 0) == (labels > 0.5)).double().mean(1).sum()

    def to_scores(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def count_hits(self, has: Tensor, labels: Tensor) -> Tensor:
        """How many images each label was rightly, wrongly and wrongly not told of: int64 (3, labels).

        `has`: bool (N, labels), what is predicted.
        """
        is_so = labels > 0.5
        return torch.stack([(has & is_so).sum(0), (has & ~is_so).sum(0), (~has & is_so).sum(0)])

    def measure_f1(self, hits: Tensor) -> dict[str, float]:
        """The mean of the labels' F1 (0 where a label is neither there nor told), and F1 over all labels together."""
        return {"macro_f1": f1(*hits.double()).mean().item(), "micro_f1": f1(*hits.double().sum(1)).item()}


class Regression(Task):
    """Numbers."""

    name = "regression"
    score = "mae"
    metrics = OF_NUMBERS
    selects_by = "valid_loss"
    has_classes = False
    has_probabilities = False

    def add_up_score(self, outputs: Tensor, labels: Labels) -> Tensor:
        assert isinstance(labels, Tensor), "numbers are mixed themselves"
        return (outputs - labels).abs().mean(1).sum()

    def to_scores(self, outputs: Tensor) -> Tensor:
        return outputs


MULTICLASS, BINARY, MULTILABEL, REGRESSION = Multiclass(), Binary(), MultiLabel(), Regression()
TASKS: dict[str, Task] = {task.name: task for task in (MULTICLASS, BINARY, MULTILABEL, REGRESSION)}
