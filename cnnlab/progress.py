"""How far a long piece of work is: a bar on a terminal; in a file or a pipe a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

EVERY = 30.0  # seconds between lines


class Progress:
    """Counts `total` pieces of work called `what`, such as "packing pictures", from `done` on."""

    def __init__(self, what: str, total: int, done: int = 0):
        self._what, self._total, self._done = what, total, done
        self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=what, total=total, initial=done, leave=False, dynamic_ncols=True)

    def update(self, number: int = 1) -> None:
        """So many more pieces are done."""
        self._done += number
        if self._bar is not None:
            self._bar.update(number)
        elif time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            print(f"{self._what}: {self._done:,} of {self._total:,}", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
