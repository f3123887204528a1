"""The registries of this package, and what their builders return."""

from collections.abc import Callable

from torch import Tensor

from cnnlab.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]  # outputs, labels → mean over the batch
Schedule = Callable[[int], float]  # step, from 0 → what the learning rate is multiplied by

OPTIMIZERS = Registry("optimizer", supplied=("params",))
SCHEDULES = Registry("schedule", supplied=("num_steps", "steps_per_epoch"))
LOSSES = Registry("loss")
