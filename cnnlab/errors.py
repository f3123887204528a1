"""Errors that a user can fix, each with the exit code that a script can act on.

A message says what was given, what was expected and what to do; it is printed without a traceback.
"""

from __future__ import annotations

import signal
import unicodedata
from collections.abc import Iterable

MAX_LISTED = 10  # names that a message gives


def printable(text: object, keep: str = "") -> str:
    """`text` with whatever would steer a terminal, or is invisible in it, written as an escape: \\x1b, \\n, \\u202e.

    Names of files and classes come from anywhere. The characters in `keep` stay.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep or unicodedata.category(each) == "Zs" else _escape(each)
        for each in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class CnnlabError(Exception):
    """The user's mistake or the user's machine: printed as a message, never as a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class ConfigError(CnnlabError):
    """One or more problems in a configuration, all of them reported together."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        return type(self), (self.problems,)  # from one process to another

    def __str__(self) -> str:
        problems = [printable(problem, keep="\n") for problem in self.problems]
        if len(problems) == 1:
            return problems[0]
        lines = [f"{len(problems)} problems in the configuration:"]
        return "\n".join(lines + [f"  - {problem}" for problem in problems])


class DataError(CnnlabError):
    """Missing, truncated or impossible data."""

    exit_code = 3


class DivergenceError(CnnlabError):
    """The loss stopped being a finite number."""

    exit_code = 4


class CheckpointError(CnnlabError):
    """A checkpoint that is truncated, foreign or not a checkpoint."""

    exit_code = 5


class StorageError(CnnlabError):
    """A run directory that cannot be written: full disk, no permission, another process inside."""

    exit_code = 6


class MemoryShortage(CnnlabError):
    """Not even what cannot be made smaller fits into memory."""

    exit_code = 8


class LostProcessError(CnnlabError):
    """Of the processes that train a run together another one has ended."""

    exit_code = 7


class FailedTrials(CnnlabError):
    """Of a sweep's trials some have failed; the others are through."""

    exit_code = 9


class Pruned(Exception):
    """A trial that is not worth its time has been ended in good order; it can be resumed to its end."""


class Interrupted(BaseException):
    """A run that was asked to stop has stopped in good order. The exit code is the shell's: 128 + signal.

    Not an Exception: whatever catches failed jobs and goes on with the next must not catch this.
    """

    def __init__(self, signum: int):
        self.signum = signum
        self.exit_code = 128 + signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


def abridge(names: Iterable[object]) -> str:
    """The first ten names, and how many more there are."""
    told = [printable(name) for name in names]
    more = [f"and {len(told) - MAX_LISTED:,} more"] if len(told) > MAX_LISTED else []
    return ", ".join([*told[:MAX_LISTED], *more])


def format_list(what: str, names: Iterable[object]) -> str:
    """`what`, how many names there are, and the first ten of them."""
    told = list(names)
    return f"{what} ({len(told):,}): {abridge(told)}"


def format_bytes(number: int) -> str:
    """In the largest unit of which there is at least one: 94.1 kB, 2.4 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} bytes"
