"""What turns gradients into better weights: optimizers, schedules, losses. Importing this fills the registries."""

from cnnlab.optim import losses, muon, optimizers, schedule_free, schedules  # noqa: F401
from cnnlab.optim.registry import LOSSES, OPTIMIZERS, SCHEDULES

__all__ = ["LOSSES", "OPTIMIZERS", "SCHEDULES"]
