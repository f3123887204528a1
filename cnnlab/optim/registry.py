"""The registries of this package, what their builders are handed, and what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cnnlab.registry import Registry
from cnnlab.signature import Count, Positive

Groups = list[dict[str, Any]]  # torch's parameter groups: {"params": parameters, and options of their own}
Loss = Callable[[Tensor, Tensor], Tensor]  # outputs, labels → mean over the batch
Schedule = Callable[[int], float]  # step, from 0 → what the learning rate is multiplied by


@dataclass(frozen=True)
class ForEveryOptimizer:
    """Keys that stand beside any optimizer's own."""

    scale_to_batch: Count | None = None  # the batch size that `lr` is meant for: lr · batch_size / this
    decay_norms_and_biases: bool = True  # false: weight_decay for weights alone
    rates: dict[str | int, Positive] = field(default_factory=dict)  # start of parameters' names → factor of `lr`


OPTIMIZERS = Registry("optimizer", supplied=("params", "model"), shared=ForEveryOptimizer)
SCHEDULES = Registry("schedule", supplied=("num_steps", "steps_per_epoch"))
LOSSES = Registry("loss")
