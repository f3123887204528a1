"""What turns gradients into better weights: optimizers, schedules, losses. Importing this fills the registries."""

from cnnlab.optim import averages, losses, muon, optimizers, schedule_free, schedules  # noqa: F401
from cnnlab.optim.registry import AVERAGES, LOSSES, OPTIMIZERS, SCHEDULES

__all__ = ["AVERAGES", "LOSSES", "OPTIMIZERS", "SCHEDULES"]
