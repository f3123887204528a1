"""Exercises: a question on the page, its answer computed when somebody asks, and never printed.

EXERCISES = [
    Exercise(
        "A 7×7 kernel: which padding keeps an image's size?",
        lambda: next(p for p in range(7) if output_size(32, 7, p, 1) == 32),
        "Solve n + 2p − k + 1 = n for p.",
        slips={7: "That is k itself; the frame lies on both sides."},
    ),
]
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cnnlab.errors import ConfigError

Answer = int | float | str | tuple[float, ...]


@dataclass(frozen=True)
class Exercise:
    """A question, the function that computes its answer, and what to look at again after a wrong one."""

    question: str
    answer: Callable[[], Answer]
    hint: str
    slips: dict[Answer, str] = field(default_factory=dict)  # wrong answers that many give → what went wrong


def check(exercise: Exercise, text: str) -> tuple[bool, str]:
    """Whether `text` is the exercise's answer, and what to tell whoever typed it."""
    answer = exercise.answer()
    given = read(text, answer)
    if same(given, answer):
        return True, "right"
    slips = [reason for wrong, reason in exercise.slips.items() if same(given, wrong)]
    return False, " ".join(["not yet.", *slips, exercise.hint])


def read(text: str, answer: Answer) -> Answer:
    """What was typed, as the kind of thing that the answer is; a ConfigError says what is expected.

    1,024 and 1_024 are numbers, and so is 2/25; a shape may be typed 8×8, 8x8, 8,8 or [8,8].
    """
    if isinstance(answer, str):
        return text.strip().lower()
    try:
        if isinstance(answer, tuple):
            return tuple(_number(part) for part in re.split(r"[,×x;\s]+", text.strip("[]() ")))
        return _number(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))
    except (ValueError, ZeroDivisionError) as error:
        wanted = f"{len(answer)} numbers, such as 2,3" if isinstance(answer, tuple) else "a number"
        raise ConfigError(f"--check: {text!r} was given; expected {wanted}") from error


def _number(text: str) -> float:
    numerator, _, denominator = text.replace("−", "-").partition("/")
    return float(numerator.strip().rstrip("%")) / (float(denominator) if denominator else 1)


def same(given: Answer, answer: Answer) -> bool:
    """Whole numbers and words must be met exactly, other numbers to one part in a hundred."""
    if isinstance(given, str) or isinstance(answer, str):
        return given == answer
    if isinstance(given, tuple) or isinstance(answer, tuple):
        if not isinstance(given, tuple) or not isinstance(answer, tuple):
            return False
        return len(given) == len(answer) and all(map(same, given, answer))
    if float(answer).is_integer():
        return given == answer
    return math.isclose(given, answer, rel_tol=0.01)
