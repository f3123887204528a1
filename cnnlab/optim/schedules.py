"""Schedules: pure functions of progress that give what the learning rate is multiplied by.

Each asks for what it needs of `step` (from 0), `num_steps`, `steps_per_epoch`, and `rows` (of metrics.csv so
far); its other arguments are the user's. No schedule has to remember anything: that of a plateau reads what it
reacts to from the rows. So resuming in the middle needs no more than they and the step. What it has read already it
may keep in its `memo`, an empty dictionary at first, so that many epochs take no longer than few.

A warm-up may stand before any of them: then the schedule begins, at its own step 0, when the warm-up ends,
and has what is left of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cnnlab.metrics import COLUMNS, is_higher_better
from cnnlab.optim.registry import SCHEDULES, ForEverySchedule, Schedule
from cnnlab.registry import Component
from cnnlab.signature import Count, Fraction, NonNegative, OneOf, Positive, Whole, keyword_arguments


def build_schedule(
    chosen: Component[ForEverySchedule], num_steps: int, steps_per_epoch: int, num_warmup: int = 0
) -> Schedule:
    """The schedule that is chosen, after `num_warmup` steps in which the rate rises evenly."""

    memo: dict[str, Any] = {}

    def schedule(step: int, rows: Sequence[Mapping[str, Any]] = ()) -> float:
        if step < num_warmup:
            return (step + 1) / (num_warmup + 1)
        return chosen.build(
            step=step - num_warmup,
            num_steps=num_steps - num_warmup,
            steps_per_epoch=steps_per_epoch,
            rows=rows,
            memo=memo,
        )

    return schedule


def reads_rows(chosen: Component[ForEverySchedule]) -> bool:
    """Whether the rate depends on what is measured during the run."""
    return "rows" in keyword_arguments(chosen.builder)


# --- By the calendar --------------------------------------------------------------------------------


@SCHEDULES.register
def constant() -> float:
    """The same rate throughout."""
    return 1.0


@SCHEDULES.register
def step(*, step: int, steps_per_epoch: int, every: Positive = 10, factor: Fraction = 0.1) -> float:
    """Times `factor` after every `every` epochs."""
    return factor ** int(min(step / (every * steps_per_epoch), 1e9) + 1e-9)  # 55 steps are 1.1 epochs of 50


@SCHEDULES.register
def multi_step(
    *, step: int, steps_per_epoch: int, epochs: tuple[NonNegative, ...] = (30, 60, 80), factor: Fraction = 0.1
) -> float:
    """Times `factor` after each of `epochs` (the default: He et al., arXiv:1512.03385, as for 90 epochs)."""
    return factor ** sum(step >= epoch * steps_per_epoch for epoch in epochs)


@SCHEDULES.register
def exponential(*, step: int, steps_per_epoch: int, factor: Fraction = 0.95) -> float:
    """Times `factor` in each epoch, evenly from step to step."""
    return factor ** (step / steps_per_epoch)


# --- By the share of the run that is over -----------------------------------------------------------


@SCHEDULES.register
def linear(*, step: int, num_steps: int, final: Fraction = 0.0) -> float:
    """A straight line from 1 at the first step to `final` after the last."""
    return 1 + (final - 1) * share(step, num_steps)


@SCHEDULES.register
def polynomial(*, step: int, num_steps: int, power: Positive = 0.9) -> float:
    """The power of what is left, down to 0 (Chen et al., arXiv:1606.00915)."""
    return (1 - share(step, num_steps)) ** power


@SCHEDULES.register
def cosine(*, step: int, num_steps: int, final: Fraction = 0.0) -> float:
    """Half a cosine from 1 at the first step to `final` after the last (Loshchilov & Hutter, arXiv:1608.03983)."""
    return half_cosine(1, final, share(step, num_steps))


@SCHEDULES.register
def triangle(
    *, step: int, num_steps: int, start: Fraction = 0.2, peak: Fraction = 0.23, final: Fraction = 0.07
) -> float:
    """A straight line up from `start` to 1 at the share `peak` of the run, another down to `final` after the last step.

    With these numbers the schedule of arXiv:2404.00498; Smith's triangle (arXiv:1506.01186), once.
    """
    over = share(step, num_steps)
    if over < peak:
        return start + (1 - start) * over / peak
    return 1 + (final - 1) * (over - peak) / (1 - peak) if peak < 1 else 1.0


@SCHEDULES.register
def one_cycle(
    *, step: int, num_steps: int, start: Fraction = 0.04, peak: Fraction = 0.3, final: Fraction = 0.000004
) -> float:
    """Half a cosine up from `start` to 1 at the share `peak` of the run, another down to `final` after the last.

    Smith & Topin, "Super-convergence" (arXiv:1708.07120); the momentum stays as it is.
    """
    over = share(step, num_steps)
    if over < peak:
        return half_cosine(start, 1, over / peak)
    return half_cosine(1, final, (over - peak) / (1 - peak)) if peak < 1 else 1.0


@SCHEDULES.register
def restarts(
    *, step: int, steps_per_epoch: int, epochs: Positive = 10, growth: Count = 2, final: Fraction = 0.0
) -> float:
    """A cosine over `epochs` epochs, again from 1 over `growth` times as many, and so on (SGDR, arXiv:1608.03983)."""
    position, length = float(step), epochs * steps_per_epoch
    if growth == 1:
        position = math.fmod(position, length)
    while position >= length:
        position, length = position - length, length * growth
    return half_cosine(1, final, position / length)


def share(step: int, num_steps: int) -> float:
    """How much of the run lies before `step`, 1 after its end."""
    return min(1.0, step / num_steps) if num_steps > 0 else 1.0


def half_cosine(first: float, last: float, over: float) -> float:
    """From `first` to `last` while `over` goes from 0 to 1, slowly at both ends."""
    return last + (first - last) * (1 + math.cos(math.pi * over)) / 2


# --- By what was measured ---------------------------------------------------------------------------


@SCHEDULES.register
def reduce_on_plateau(
    *,
    rows: Sequence[Mapping[str, Any]],
    steps_per_epoch: int,
    memo: dict[str, Any],
    metric: Annotated[str, OneOf(COLUMNS)] = "valid_loss",
    factor: Fraction = 0.1,
    patience: Whole = 10,
    threshold: NonNegative = 0.0001,
    cooldown: Whole = 0,
    final: Fraction = 0.0,
) -> float:
    """Times `factor`, down to `final`, when `metric` has not become better for more than `patience` epochs.

    Better is by more than the share `threshold` of the best so far; for `cooldown` epochs after a reduction
    nothing is counted.
    """
    sign = 1 if is_higher_better(metric) else -1
    num_read, last, found = memo.get("plateau", (0, None, (1.0, -math.inf, 0, 0)))
    if num_read and (num_read > len(rows) or rows[num_read - 1] is not last):
        num_read, found = 0, (1.0, -math.inf, 0, 0)  # other rows
    multiplier, best, num_bad, num_cool = found
    for row in rows[num_read:]:
        if row["step"] % steps_per_epoch:  # of a run that ended inside the epoch and was prolonged
            continue
        value = sign * row[metric]
        if value > best + threshold * abs(best) or (best == -math.inf and not math.isnan(value)):
            best, num_bad = value, 0
        else:
            num_bad += 1
        if num_cool > 0:
            num_cool, num_bad = num_cool - 1, 0
        if num_bad > patience:
            multiplier, num_bad, num_cool = max(multiplier * factor, final), 0, cooldown
    memo["plateau"] = len(rows), rows[-1] if rows else None, (multiplier, best, num_bad, num_cool)
    return multiplier
