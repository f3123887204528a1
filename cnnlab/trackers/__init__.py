"""Experiment trackers that a run can also tell: the same names and numbers as in its directory.

Importing this package fills `TRACKERS`; the trackers' own packages are imported when one starts.
"""

from cnnlab.trackers import mlflow, tensorboard, wandb  # noqa: F401
from cnnlab.trackers.registry import TRACKERS, Story, Tracker

__all__ = ["TRACKERS", "Story", "Tracker"]
