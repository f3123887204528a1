"""Losses: functions of (outputs, labels) that return the batch's mean, and the tasks that each fits.

What outputs and labels are for each task stands in `cnnlab.tasks`. Where classes have weights, the mean
is the weighted one. Builders return losses of plain labels; `build_loss` makes them take mixed ones too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.errors import ConfigError
from cnnlab.optim.registry import LOSSES, Loss
from cnnlab.registry import Component
from cnnlab.signature import Fraction, NonNegative, Positive
from cnnlab.tasks import BINARY, MULTICLASS, MULTILABEL, REGRESSION, TASKS, Labels, Mixed, Task, surprise

Builder = TypeVar("Builder", bound=Callable[..., Loss])
Weights = tuple[Positive, ...] | Literal["auto"] | None  # one for each class; None: all count alike


def build_loss(
    chosen: Component[None],
    task: Task,
    num_classes: int,
    device: torch.device,
    class_counts: Tensor | None = None,
) -> Criterion:
    """The loss that is chosen. Raises ConfigError if it does not fit the task.

    `class_counts` (classes,) are the numbers of training images, which weights that are "auto" come from, of many
    labels (2, labels) those without and with each; before they are known all classes count alike.
    """
    fitting = [name for name in LOSSES if task in tasks_of(name)]
    if chosen.name not in fitting:
        raise ConfigError(
            f"loss: {chosen.name} is for {' and '.join(map(str, tasks_of(chosen.name)))}, and the dataset's task is "
            f"{task}; expected one of {', '.join(fitting)}"
        )
    return Criterion(chosen.build(num_classes=num_classes, device=device, class_counts=class_counts))


class Criterion:
    """A loss as the loop calls it: labels may be mixed, and count as much as the loss says."""

    def __init__(self, loss: Loss):
        self._loss = loss
        self._class_weights: Tensor | None = getattr(loss, "keywords", {}).get("weight")

    def __call__(self, outputs: Tensor, labels: Labels) -> Tensor:
        """The mean loss; of mixed labels over all first and all second ones, each in its share."""
        if isinstance(labels, Mixed):
            total = labels.average(lambda some: self._loss(outputs, some) * self.weigh(some))
            return total / self.weigh(labels)
        return self._loss(outputs, labels)

    def weigh(self, labels: Labels) -> float | Tensor:
        """What the mean divides by: the number of labels, or the sum of their classes' weights."""
        if isinstance(labels, Mixed):
            return labels.average(self.weigh)
        return len(labels) if self._class_weights is None else self._class_weights[labels].sum()

    def each(self, outputs: Tensor, labels: Labels) -> Tensor:
        """The loss of each image for itself (N,), as of a batch of one: whatever its class counts, if it counts."""
        if isinstance(labels, Mixed):
            return labels.average(lambda some: self.each(outputs, some))
        if len(labels) == 0:
            return outputs.new_zeros(0)
        if self._class_weights is not None:  # which vmap has no rule for beside label smoothing
            weighted = self._loss(outputs, labels, reduction="none")  # type: ignore[call-arg]
            weights = self._class_weights[labels]
            total, weight = weighted.view(len(labels), -1).sum(1), weights.view(len(labels), -1).sum(1)
            return total / weight.masked_fill(weight == 0, 1)
        return torch.vmap(lambda one, label: self._loss(one.unsqueeze(0), label.unsqueeze(0)))(outputs, labels)


def needs_class_counts(chosen: Component[None]) -> bool:
    """Whether weights of this loss are to come from the training images."""
    return "auto" in (chosen.arguments.get("class_weights"), chosen.arguments.get("pos_weight"))


def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks that a registered loss fits: all of them where it doesn't say."""
    return getattr(LOSSES[name], "tasks", tuple(TASKS.values()))


def fits(*tasks: Task) -> Callable[[Builder], Builder]:
    """Decorator: the loss is for these tasks."""

    def mark(builder: Builder) -> Builder:
        builder.tasks = tasks  # type: ignore[attr-defined]
        return builder

    return mark


# --- Classes ----------------------------------------------------------------------------------------


@LOSSES.register
@fits(MULTICLASS)
def cross_entropy(
    *,
    num_classes: int,
    device: torch.device,
    class_counts: Tensor | None = None,
    label_smoothing: Fraction = 0.0,
    class_weights: Weights = None,
) -> Loss:
    """Softmax cross-entropy."""
    weights = as_tensor(class_weights, num_classes, device, class_counts)
    return partial(F.cross_entropy, weight=weights, label_smoothing=label_smoothing)


@LOSSES.register
@fits(MULTICLASS)
def nll(
    *, num_classes: int, device: torch.device, class_counts: Tensor | None = None, class_weights: Weights = None
) -> Loss:
    """Negative log-likelihood of outputs that are log-probabilities already, as after nn.LogSoftmax.

    Per pixel too: outputs (N, classes, H, W) with labels (N, H, W).
    """
    return partial(F.nll_loss, weight=as_tensor(class_weights, num_classes, device, class_counts))


@LOSSES.register
@fits(BINARY, MULTILABEL)
def bce_with_logits(
    *, device: torch.device, class_counts: Tensor | None = None, pos_weight: Positive | Literal["auto"] = 1.0
) -> Loss:
    """Binary cross-entropy of a logit, or the mean over those of several labels.

    An image of class 1, or that has a label, counts `pos_weight` times; "auto": both classes as much, for each label.
    """
    weight = torch.tensor(1.0 if pos_weight == "auto" else pos_weight, device=device)
    if pos_weight == "auto" and class_counts is not None:
        weight = (class_counts[0] / class_counts[1].clamp(min=1)).float().to(device)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        if labels.is_floating_point():  # (N, labels), between 0 and 1 where images are mixed
            return F.binary_cross_entropy_with_logits(outputs, labels, pos_weight=weight)
        return ((1 + (weight - 1) * labels) * surprise(outputs, labels)).mean()

    return loss


@LOSSES.register
@fits(MULTICLASS, BINARY)
def focal(*, gamma: NonNegative = 2.0) -> Loss:
    """Cross-entropy in which a class given probability p counts (1 - p)^gamma (Lin et al., arXiv:1708.02002)."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        missing = surprise(outputs, labels)
        # 1 - p; at 0 a power below 1 has no finite slope.
        doubt = (-torch.expm1(-missing)).clamp(min=1e-12)
        return (doubt**gamma * missing).mean()

    return loss


@LOSSES.register
@fits(MULTICLASS, BINARY)
def poly(*, epsilon: float = 1.0) -> Loss:
    """Cross-entropy + epsilon · (1 - p): PolyLoss-1 (Leng et al., arXiv:2204.12511); above -1."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        missing = surprise(outputs, labels)
        return (missing - epsilon * torch.expm1(-missing)).mean()

    return loss


def as_tensor(weights: Weights, num_classes: int, device: torch.device, class_counts: Tensor | None) -> Tensor | None:
    """Raises ConfigError unless there is one weight for each class, or none at all."""
    if weights == "auto":
        return None if class_counts is None else balance(class_counts).to(device)
    if weights is None:
        return None
    if len(weights) != num_classes:
        raise ConfigError(
            f"loss.class_weights: {len(weights)} were given; expected one for each of {num_classes} classes, "
            "auto or null"
        )
    return torch.tensor(weights, dtype=torch.float32, device=device)


def balance(class_counts: Tensor) -> Tensor:
    """Weights with which each class counts as much: images / (classes · images of the class).

    Classes are those that there are images of; another one, which labels that are smoothed may point to, counts 1.
    """
    num_classes = (class_counts > 0).sum().clamp(min=1)
    weights = class_counts.sum() / (num_classes * class_counts.clamp(min=1)).float()
    return weights.masked_fill(class_counts == 0, 1.0)


# --- Numbers ----------------------------------------------------------------------------------------


@LOSSES.register
@fits(REGRESSION)
def mse() -> Loss:
    """Mean squared error."""
    return F.mse_loss


@LOSSES.register
@fits(REGRESSION)
def l1() -> Loss:
    """Mean absolute error: a few wild targets matter less."""
    return F.l1_loss


@LOSSES.register
@fits(REGRESSION)
def smooth_l1(*, beta: Positive = 1.0) -> Loss:
    """Squared below `beta`, absolute above (Girshick, arXiv:1504.08083)."""
    return partial(F.smooth_l1_loss, beta=beta)
