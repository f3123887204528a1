"""Durations in steps, epochs or examples, as a user writes them (the loop sees only steps), and times in seconds."""

from __future__ import annotations

import re

UNITS = ("step", "epoch", "example")
PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(step|epoch|example)s?\s*")
TIME = re.compile(r"\s*(?:(\d+(?:\.\d*)?)\s*h)?\s*(?:(\d+(?:\.\d*)?)\s*m)?\s*(?:(\d+(?:\.\d*)?)\s*s)?\s*")
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


def parse_time(text: str) -> float:
    """ "1h30m" → 5400.0 seconds. Raises ValueError, saying what was expected."""
    match = TIME.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} was given; expected hours, minutes or seconds, such as '30m', '90s' or '1h30m'")
    return sum(float(number or 0) * unit for number, unit in zip(match.groups(), (3600, 60, 1), strict=True))
