"""The learning rate range test: one sweep of rising rates, and what it suggests.

Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186). The rate rises by the same
factor from step to step: too small, the loss stands still; large enough, it falls; too large, it explodes.
The suggestion is a tenth of the rate at which the loss was lowest: still fast, and away from the edge.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients, unchanged

EXPLODED = 4  # times the lowest loss: the sweep ends here
MARGIN = 10  # from the rate with the lowest loss down to the suggestion
REACH = 2  # steps on either side that smoothing takes in


class Sweep(NamedTuple):
    """Of each step its learning rate, its loss, and the mean of the losses around it."""

    rates: list[float]
    losses: list[float]
    smooth: list[float]

    @property
    def lowest(self) -> int:
        """The step at which the smoothed loss is lowest."""
        return min(range(len(self.smooth)), key=self.smooth.__getitem__)

    @property
    def suggestion(self) -> float:
        return self.rates[self.lowest] / MARGIN


def sweep_rates(
    training: Training, num_steps: int, lowest: float, highest: float, micro_batch_size: int | None = None
) -> Sweep:
    """Train `num_steps` with rates from `lowest` to `highest`, or until the loss explodes; then put all weights back.

    A group of parameters whose rate is a multiple of the first group's keeps it so.
    """
    t = training
    base_rates = [group["lr"] for group in t.optimizer.param_groups]
    state = State(micro_batch_size=micro_batch_size)
    rates: list[float] = []
    losses: list[float] = []
    with unchanged(t):
        for step in range(num_steps):
            rate = lowest * (highest / lowest) ** (step / (num_steps - 1))
            for group, base in zip(t.optimizer.param_groups, base_rates, strict=True):
                group["lr"] = base / base_rates[0] * rate
            state.step = step
            learn = partial(compute_gradients, t, *t.train.batch(0, step), state)
            loss = learn()[1].item()  # of the weights that all smaller rates have led to
            if not math.isfinite(loss) or loss > EXPLODED * min([*losses, loss]):
                break
            t.take_step(learn)
            rates.append(rate)
            losses.append(loss)
    return Sweep(rates, losses, smooth(losses))


def smooth(values: list[float]) -> list[float]:
    """The mean of each value and those up to REACH before and after it."""
    windows = [values[max(0, index - REACH) : index + REACH + 1] for index in range(len(values))]
    return [sum(window) / len(window) for window in windows]
