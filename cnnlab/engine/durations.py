"""Durations in steps, epochs or examples, as a user writes them; the loop sees only steps."""

from __future__ import annotations

import re

UNITS = ("step", "epoch", "example")
PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(step|epoch|example)s?\s*")
EXPECTED = "a number and a unit, such as '500 steps', '2 epochs' or '64000 examples'"


def parse_duration(text: str) -> tuple[float, str]:
    """ "2 epochs" → (2.0, "epoch"). Raises ValueError, saying what was expected."""
    match = PATTERN.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} was given; expected {EXPECTED}")
    return float(match[1]), match[2]


def count_steps(amount: float, unit: str, *, num_examples: int, batch_size: int) -> int:
    """How many steps `amount` of `unit` are, at least one; an epoch ends in a batch that may be smaller."""
    steps_per_epoch = -(-num_examples // batch_size)
    # The small subtraction keeps 0.1 + 0.2 = 0.30000000000000004 epochs from costing one step more.
    steps = {"step": amount, "epoch": amount * steps_per_epoch, "example": amount / batch_size}[unit]
    return max(1, int(-(-(steps - 1e-9) // 1)))
