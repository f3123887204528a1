"""Standard output and error of a process that works for hours: it does not end because nobody reads them any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Lasting:
    """A stream that leads nowhere from the first text on that cannot be written: to a closed pipe, to a full disk."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._leave()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._leave()

    def _leave(self) -> None:
        """What is kept to be written goes nowhere too, also when the process ends."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Inside, what is printed may be lost and stops nothing."""
    before = sys.stdout
    sys.stdout = Lasting(before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = before


def open_closed_streams() -> None:
    """Open standard output and error where they are closed (`2>&-`): else a file that is opened gets their number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 (as long as the process)
