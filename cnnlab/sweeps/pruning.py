"""Which trials are not worth going on with, by the validation metric as the trials write it.

asha      asynchronous successive halving (Li et al., arXiv:1810.05934), where it stops: after r, r·η, r·η², … epochs a
           configuration goes on if it is among the best 1/η of those that have got so far
median    it ends if its best so far is worse than the median of the others at that epoch (Golovin et al., 2017)
patience  it ends if its own metric has not improved for some epochs

A configuration on several seeds is judged by the mean over those that have got so far.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cnnlab.metrics import is_higher_better
from cnnlab.sweeps.directory import SweepDirectory, Trial
from cnnlab.sweeps.settings import Settings


class Judge:
    """Asked about a trial's rows after each epoch; the reason to end it, or None."""

    def __init__(self, sweep: SweepDirectory, settings: Settings, metric: str, trial: Trial):
        self._sweep, self._settings, self._metric, self._trial = sweep, settings, metric, trial
        self._trials = sweep.read_trials() if settings.pruner in ("asha", "median") else [trial]

    def __call__(self, rows: Sequence[dict[str, Any]]) -> str | None:
        settings, epoch = self._settings, len(rows)
        if rows[-1].get(self._metric) is None:  # nothing is validated
            return None
        if settings.pruner == "patience":
            stale = epoch - 1 - min(range(epoch), key=lambda number: self._rank(rows[number][self._metric]))
            if stale >= settings.patience:
                return f"{self._metric} did not improve for {stale} epochs"
            return None
        if epoch < settings.min_epochs or (settings.pruner == "asha" and not self.is_rung(epoch)):
            return None
        own, others = self.compare(rows, epoch)
        if settings.pruner == "asha":
            ranked = sorted([own, *others], key=self._rank)
            num_kept = max(1, len(ranked) // settings.reduction)
            if self._rank(own) > self._rank(ranked[num_kept - 1]):
                return f"{self._metric} {own:.4f} is not among the best {num_kept} of {len(ranked)} at epoch {epoch}"
        elif len(others) >= max(1, settings.startup):
            median = statistics.median(others)
            if self._rank(own) > self._rank(median):
                return f"{self._metric} {own:.4f} is worse than the median {median:.4f} at epoch {epoch}"
        return None

    def is_rung(self, epoch: int) -> bool:
        rung = self._settings.min_epochs
        while rung < epoch:
            rung *= self._settings.reduction
        return rung == epoch

    def compare(self, rows: Sequence[dict[str, Any]], epoch: int) -> tuple[float, list[float]]:
        """The best so far of the trial's configuration, and of each other one that has got to this epoch."""
        if len(self._trials) == 1 or self._settings.trials is not None:
            self._trials = self._sweep.read_trials()  # a search has more by now
        found: dict[int, list[float]] = defaultdict(list)
        found[self._trial.configuration].append(self._best(rows, epoch))
        for trial in self._trials:
            if trial.number == self._trial.number:
                continue
            theirs = self._sweep.run(trial.number).read_metrics()
            if len(theirs) >= epoch and theirs[0].get(self._metric) is not None:
                found[trial.configuration].append(self._best(theirs, epoch))
        means = {configuration: statistics.mean(values) for configuration, values in found.items()}
        return means.pop(self._trial.configuration), list(means.values())

    def _best(self, rows: Sequence[dict[str, Any]], epoch: int) -> float:
        return min((row[self._metric] for row in rows[:epoch]), key=self._rank)

    def _rank(self, value: float) -> float:
        """The smaller, the better; what is no number is worse than any."""
        if math.isnan(value):
            return math.inf
        return -value if is_higher_better(self._metric) else value
