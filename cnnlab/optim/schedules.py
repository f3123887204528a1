"""Schedules: pure functions step → multiplier of the learning rate, so that resuming needs no state."""

from __future__ import annotations

import math

from cnnlab.optim.registry import SCHEDULES, Schedule
from cnnlab.signature import Fraction, Positive


@SCHEDULES.register
def constant() -> Schedule:
    """The same rate throughout."""
    return lambda step: 1.0


@SCHEDULES.register
def step(*, steps_per_epoch: int, every: Positive = 10, factor: Fraction = 0.1) -> Schedule:
    """Times `factor` after every `every` epochs."""
    return lambda step: factor ** int(step / (every * steps_per_epoch))


@SCHEDULES.register
def cosine(*, num_steps: int, final: Fraction = 0.0) -> Schedule:
    """Half a cosine from 1 at the first step to `final` behind the last (Loshchilov & Hutter, arXiv:1608.03983)."""
    return lambda step: final + (1 - final) * (1 + math.cos(math.pi * min(1, step / num_steps))) / 2
