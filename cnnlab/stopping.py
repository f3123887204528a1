"""Being asked to stop, by Ctrl-C or by SIGTERM, and doing so in good order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cnnlab.distributed import largest
from cnnlab.errors import Interrupted


class StopRequest:
    """Context in which SIGINT (Ctrl-C) and SIGTERM raise Interrupted.

    Inside `deferred` they are only noted, to be acted on between two steps, after `agree`; a second one does not wait.
    """

    def __init__(self) -> None:
        self.noted: int | None = None  # signal that this process got
        self.signum: int | None = None  # signal that a process of this run got, and all know of
        self._waits = False
        self._previous: dict[int, object] = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if not self._waits or self.noted is not None:
            raise Interrupted(signum)
        self.noted = signum

    def __enter__(self) -> StopRequest:
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[signum] = signal.signal(signum, self._note)
            except ValueError:  # not the main thread, where Python allows no handlers
                break
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a request waits for `check`. One that came after the last of these is acted on at the end.

        An error ends the context without ending the wait: what has to be told of it is not disturbed.
        """
        self._waits = True
        yield
        self._waits = False
        self.agree(False)
        self.check()

    def agree(self, time_is_over: bool) -> bool:
        """Make what any process was asked for, since the last time, the request of all: they end at the same step.

        Returns whether time is over for any of them. Called once a step by each; no device is waited for.
        """
        signum, over = largest(self.noted or 0, time_is_over)
        self.signum = int(signum) or None
        return bool(over)

    @property
    def requested(self) -> bool:
        return self.signum is not None

    def check(self) -> None:
        """Raises Interrupted if a process of this run was asked to stop, and all know of it."""
        if self.signum is not None:
            raise Interrupted(self.signum)
