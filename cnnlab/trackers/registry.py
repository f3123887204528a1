"""What a tracker is, and the registry of those there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cnnlab.registry import Registry

TRACKERS: Registry[None] = Registry("logger", supplied=("story", "known_id"))


@dataclass(frozen=True)
class Story:
    """What is known of a run before its first epoch."""

    path: Path
    id: str  # the run's own, wherever its directory is copied
    experiment: str  # what collects runs: the configuration's name
    name: str  # of the run among them
    group: str | None  # the sweep or the cross-validation that it is part of
    parameters: Mapping[str, Any]  # {"optimizer.lr": 0.003}
    commit: str | None  # of cnnlab's checkout


class Tracker(Protocol):
    """A run as a tracker has it. Each method may fail, or take as long as it will."""

    id: str  # by which the tracker finds the run again

    def log_row(self, step: int, values: Mapping[str, float]) -> None:
        """An epoch: the columns of metrics.csv, after so many steps."""

    def log_pictures(self, paths: list[Path]) -> None: ...

    def end(self, status: str, values: Mapping[str, float], step: int) -> None:
        """How the run ended, and its test metrics. Later it may go on under the same id."""
