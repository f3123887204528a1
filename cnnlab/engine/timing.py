"""The clock, and where the time of a step goes, without waiting for the device.

On a CPU the marks are readings of the clock. On a CUDA device they are events in its stream, between
which it measures itself; they are read when a line is logged, when the device has passed them anyway.
"""

from __future__ import annotations

import time

import torch

PARTS = ("data", "forward", "backward", "optimizer")  # clipping and what scales the loss count as optimizer


def read_clock(device: torch.device) -> float:
    """Seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


class StepTimes:
    """Seconds of each part, added up over the steps of this process.

    `begin` opens a step; `end(part)` says that what was done since the mark before was that part. What comes between
    two steps (logging, validation, checkpoints) counts nowhere, nor does what ends before a step was begun.
    """

    def __init__(self, device: torch.device | None = None):
        self._on_device = device is not None and device.type == "cuda"
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._mark: float | torch.cuda.Event | None = None
        self._unread: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def begin(self) -> None:
        self._mark = self._now()

    def end(self, part: str) -> None:
        if self._mark is None:
            return
        before, self._mark = self._mark, self._now()
        if isinstance(before, float):
            self._seconds[part] += self._mark - before  # type: ignore[operator]
        else:
            self._unread.append((part, before, self._mark))  # type: ignore[arg-type]

    def read(self) -> dict[str, float]:
        """The sums; on a CUDA device this waits for the last mark."""
        if self._unread:
            self._unread[-1][2].synchronize()
        for part, before, after in self._unread:
            self._seconds[part] += before.elapsed_time(after) / 1000  # from milliseconds
        self._unread.clear()
        return dict(self._seconds)

    def _now(self) -> float | torch.cuda.Event:
        if not self._on_device:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
