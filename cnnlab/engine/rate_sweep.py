"""The learning rate range test: sweeps of rising rates, and what they suggest.

Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186). The rate rises by the same
factor from step to step: too small, the loss stands still; large enough, it falls; too large, it explodes.
The suggestion is a fifth of the rate at which the loss was lowest: still fast, and away from the edge.

One sweep depends on the order of its images; the mean of several, each in another order, hardly does. A loss may fall
though nothing is learned but how frequent each class is: then outputs fit the other images of their batch as well as
their own, and nothing is suggested.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from cnnlab.engine.hardest import choose_images
from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients, unchanged

EXPLODED = 4  # times the lowest loss, and above the first one: the sweep ends here
LEAST_FALL = 0.03  # of the loss: more than the means differ by chance
LEARNED = 0.001  # of the loss at the start: hardly anything is left, and larger rates cannot show what they do
MARGIN = 5  # from the rate with the lowest loss down to the suggestion
REACH = 1 / 40  # of the steps, on either side, that smoothing takes in


class Sweep(NamedTuple):
    """Of each step its learning rate, and its losses as means over the sweeps."""

    rates: list[float]
    losses: list[float]
    smooth: list[float]  # the mean of the losses around the step
    chance: list[float]  # the same of outputs that were given to other images of the batch

    @property
    def lowest(self) -> int:
        """The step at which the smoothed loss is lowest, or at which all has been `learned`."""
        return min(range(len(self.smooth)), key=self.smooth.__getitem__) if self.learned is None else self.learned

    @property
    def learned(self) -> int | None:
        """The first step at which next to nothing is left of the loss: then it stays low at any rate."""
        return next((step for step, loss in enumerate(self.smooth) if loss <= LEARNED * self.smooth[0]), None)

    @property
    def suggestion(self) -> float | None:
        """None where the loss never fell clearly below where it began and below chance."""
        bound = (1 - LEAST_FALL) * min(self.smooth[0], self.chance[self.lowest])
        return self.rates[self.lowest] / MARGIN if self.smooth[self.lowest] <= bound else None


class Step(NamedTuple):
    loss: float
    chance: float


def sweep_rates(
    training: Training,
    num_sweeps: int,
    num_steps: int,
    lowest: float,
    highest: float,
    micro_batch_size: int | None = None,
) -> Sweep:
    """Train `num_steps` with rates from `lowest` to `highest`, or until the loss explodes; put all weights back; again.

    Each sweep goes through the training images in orders of its own, as often as its steps need. What comes back ends
    with the shortest of them. A group of parameters whose rate is a multiple of the first group's keeps it so.
    """
    rates = [lowest * (highest / lowest) ** (step / (num_steps - 1)) for step in range(num_steps)]
    epochs = math.ceil(num_steps / len(training.train))
    sweeps = []
    for number in range(num_sweeps):
        with unchanged(training):
            sweeps.append(list(take_steps(training, rates, number * epochs, micro_batch_size)))
    steps = list(zip(*sweeps, strict=False))
    losses = [mean([step.loss for step in same]) for same in steps]
    chance = [mean([step.chance for step in same]) for same in steps]
    reach = max(1, round(REACH * num_steps))
    return Sweep(rates[: len(steps)], losses, smooth(losses, reach), smooth(chance, reach))


def take_steps(
    training: Training, rates: Sequence[float], first_epoch: int, micro_batch_size: int | None
) -> Iterator[Step]:
    """One step with each rate, until the loss explodes."""
    t = training
    base_rates = [group["lr"] for group in t.optimizer.param_groups]
    state = State(micro_batch_size=micro_batch_size)
    losses: list[float] = []
    for state.step, rate in enumerate(rates):
        for group, base in zip(t.optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base / base_rates[0] * rate
        epoch, number = divmod(state.step, len(t.train))
        (images, labels), _ = choose_images(t, *t.train.batch(first_epoch + epoch, number), state)
        learn = partial(compute_gradients, t, images, labels, state)
        outputs, loss = learn()  # of the weights that all smaller rates have led to
        losses.append(loss.item())
        if not math.isfinite(losses[-1]) or losses[-1] > max(EXPLODED * min(losses), losses[0]):
            return
        yield Step(losses[-1], t.criterion(outputs.detach().roll(1, 0), labels).item())
        t.take_step(learn)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """The mean of each value and those up to `reach` before and after it."""
    return [mean(values[max(0, index - reach) : index + reach + 1]) for index in range(len(values))]
