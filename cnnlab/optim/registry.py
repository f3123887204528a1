"""The registries of this package, what their builders are handed, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from cnnlab.durations import Duration
from cnnlab.registry import Registry
from cnnlab.signature import Count, Positive

Groups = list[dict[str, Any]]  # torch's parameter groups: {"params": parameters, and options of their own}
Loss = Callable[[Tensor, Tensor], Tensor]  # outputs, labels → mean over the batch


class Schedule(Protocol):
    """A schedule in use: step (from 0) and rows of metrics.csv so far → what the learning rate is multiplied by."""

    def __call__(self, step: int, rows: Sequence[Mapping[str, Any]] = ()) -> float: ...


@dataclass(frozen=True)
class ForEveryOptimizer:
    """Keys that stand beside any optimizer's own."""

    scale_to_batch: Count | None = None  # the batch size that `lr` is meant for: lr · batch_size / this
    decay_norms_and_biases: bool = True  # false: weight_decay for weights alone
    clip_norm: Positive | None = None  # gradients, all together
    clip_value: Positive | None = None  # each of their numbers
    rates: dict[str | int, Positive] = field(
        default_factory=dict
    )  # head, norms_and_biases, or start of parameters' names → factor of `lr`

    @property
    def factors(self) -> dict[str, float]:
        """`rates` by names; YAML reads a 0 among them as a number."""
        return {str(prefix): factor for prefix, factor in self.rates.items()}


@dataclass(frozen=True)
class ForEverySchedule:
    """Keys that stand beside any schedule's own."""

    warmup: Duration | None = None


OPTIMIZERS = Registry("optimizer", supplied=("params", "model"), shared=ForEveryOptimizer)
SCHEDULES = Registry(
    "schedule", supplied=("step", "num_steps", "steps_per_epoch", "rows", "memo"), shared=ForEverySchedule
)
LOSSES: Registry[None] = Registry("loss", supplied=("num_classes", "device", "class_counts"))
# `train` is the engine's source of batches; the engine's protocol `Average` says what an entry returns.
AVERAGES: Registry[None] = Registry("average", supplied=("model", "optimizer", "num_steps", "train"))
