"""Durations in steps, epochs or examples, and times in hours, minutes and seconds, as a user writes them.

Both are read once, by `config.py`; the loop sees only steps and seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

Unit = Literal["step", "epoch", "example"]

DURATION = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(step|epoch|example)s?\s*")
LONGEST = 1e15  # of any unit: what nobody waits for
TIME = re.compile(r"\s*(?:(\d+(?:\.\d*)?)\s*h)?\s*(?:(\d+(?:\.\d*)?)\s*m)?\s*(?:(\d+(?:\.\d*)?)\s*s)?\s*")


@dataclass(frozen=True)
class Duration:
    """`2 epochs`: an amount and its unit."""

    amount: float
    unit: Unit
    expected: ClassVar[str] = "a number above 0 and a unit, such as '500 steps', '2 epochs' or '64000 examples'"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError, saying what was expected."""
        match = DURATION.fullmatch(text)
        if not match or not 0 < float(match[1]) <= LONGEST:
            raise ValueError(f"{text!r} was given; expected {cls.expected}")
        return cls(float(match[1]), cast(Unit, match[2]))

    def __str__(self) -> str:
        return f"{self.amount:.15g} {self.unit}{'' if self.amount == 1 else 's'}"

    def count_steps(self, *, num_examples: int, batch_size: int) -> int:
        """How many steps it takes, at least one; an epoch ends in a batch that may be smaller."""
        steps_per_epoch = -(-num_examples // batch_size)
        num_passes, rest = divmod(self.amount, num_examples)
        steps = {
            "step": self.amount,
            "epoch": self.amount * steps_per_epoch,
            "example": num_passes * steps_per_epoch + rest / batch_size,
        }[self.unit]
        # The small subtraction keeps 0.1 + 0.2 = 0.30000000000000004 epochs from costing one step more.
        return max(1, int(-(-(steps - 1e-9) // 1)))


@dataclass(frozen=True)
class Time:
    """`1h30m`: hours, minutes and seconds."""

    seconds: float
    expected: ClassVar[str] = "hours, minutes or seconds, such as '30m', '90s' or '1h30m'"

    @classmethod
    def parse(cls, text: str) -> Time:
        """Raises ValueError, saying what was expected."""
        match = TIME.fullmatch(text)
        amounts = match.groups() if match else ()
        seconds = sum(float(amount or 0) * unit for amount, unit in zip(amounts, (3600, 60, 1), strict=False))
        if not 0 < seconds <= LONGEST:
            raise ValueError(f"{text!r} was given; expected {cls.expected}")
        return cls(seconds)

    def __str__(self) -> str:
        hours, rest = divmod(self.seconds, 3600)
        minutes, seconds = divmod(rest, 60)
        parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
        return "".join(f"{amount:.15g}{unit}" for amount, unit in parts if amount) or "0s"
