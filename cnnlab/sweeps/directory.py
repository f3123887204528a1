"""The directory of a sweep: what was decided before the first trial, what came of each, and the trials' own runs.

outputs/sweeps/<date_time>[-k]/
  sweep.yaml       what was typed, the settings, the axes
  trials.jsonl     a line for each trial: its whole configuration, as it was when the sweep began
  outcomes.jsonl   how trials ended that their own directories do not tell: failed before, killed
  trials.csv       the table of all
  best.yaml        the best configuration, as a file of conf/experiment
  plots/           the history of the best, the score by each axis, all axes at once
  trial_0000/ …    ordinary runs
  logs/            what each trial printed
  launcher/        what a launcher of Hydra's keeps of its jobs
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

import cnnlab
from cnnlab.errors import ConfigError, StorageError
from cnnlab.runs.directory import RunDirectory, make_whole, name_directories, parse_yaml

ENDED = ("completed", "pruned", "failed")


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: a configuration on one seed."""

    number: int
    configuration: int
    seed: int
    values: list[str]  # of the axes, as they would be typed
    config: dict[str, Any]  # resolved and checked


@dataclass(frozen=True)
class Outcome:
    """How a trial stands. `score` is that of its best epoch, by the sweep's metric."""

    status: str  # waiting, running, interrupted, killed, completed, pruned, failed
    score: float | None = None
    reason: str | None = None
    epochs: int = 0
    seconds: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class SweepDirectory:
    """A sweep on the disk. One process carries it out at a time."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.files = RunDirectory(path)  # which knows how to write files whole
        self.plan = self.path / "sweep.yaml"
        self.trials = self.path / "trials.jsonl"
        self.outcomes = self.path / "outcomes.jsonl"
        self.table = self.path / "trials.csv"
        self.best = self.path / "best.yaml"
        self.study = self.path / "optuna.log"
        self.stop = self.path / "stop"  # asks everyone to stop, wherever they run
        self.plots = self.path / "plots"
        self.launcher = self.path / "launcher"  # whatever a launcher of Hydra's writes

    def __str__(self) -> str:
        return str(self.path)

    def run(self, number: int) -> RunDirectory:
        return RunDirectory(self.path / f"trial_{number:04d}")

    def log(self, number: int) -> Path:
        return self.path / "logs" / f"trial_{number:04d}.txt"

    def exit_code(self, number: int) -> Path:
        """How the process of a trial ended that a launcher began."""
        return self.log(number).with_suffix(".code")

    def read_exit_code(self, number: int) -> int | None:
        """None while the trial's process has not ended."""
        try:
            return int(self.exit_code(number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @classmethod
    def open(cls, path: str | Path) -> SweepDirectory:
        """Raises ConfigError if `path` is no sweep."""
        sweep = cls(path)
        if not sweep.plan.is_file():
            raise ConfigError(
                f"{path}: no sweep here (it has no sweep.yaml); expected a directory such as outputs/sweeps/DATE_TIME"
            )
        return sweep

    @classmethod
    def claim(cls, folder: Path, plan: Mapping[str, Any], trials: Iterable[Trial]) -> SweepDirectory:
        """A new directory that appears with all that was decided. Raises StorageError."""
        lines = [_as_line(asdict(trial)) for trial in trials]

        def fill(aside: RunDirectory) -> None:
            inside = cls(aside.path)
            aside.write_yaml(inside.plan, {"cnnlab": cnnlab.__version__, **plan})
            aside.write_text(inside.trials, lines)

        return cls(next(path for path in name_directories(folder) if make_whole(path, fill)))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises StorageError if another process carries the sweep out."""
        with self.files.locked(self.plan, "sweeping"):
            yield

    # --- Decisions --------------------------------------------------------------------------------

    def read_plan(self) -> dict[str, Any]:
        """Raises ConfigError if sweep.yaml is damaged."""
        try:
            plan = parse_yaml(self.plan.read_text(encoding="utf-8"))
            assert isinstance(plan, dict) and isinstance(plan["settings"], dict) and isinstance(plan["axes"], list)
        except (OSError, ValueError, yaml.YAMLError, AssertionError, KeyError) as error:
            raise ConfigError(
                f"{self.plan}: is not what a sweep wrote ({type(error).__name__}); put it back"
            ) from error
        return plan

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        self.files.write_yaml(self.plan, plan)

    def read_trials(self) -> list[Trial]:
        """A line that a kill has torn ends them: its trial had not begun. Raises ConfigError for any other damage."""
        trials = []
        for index, contents in enumerate(_read_lines(self.trials)):
            try:
                trial = Trial(**contents)
                assert trial.number == index and isinstance(trial.config, dict)
            except (TypeError, AssertionError) as error:
                raise ConfigError(f"{self.trials}: line {index + 1} is not what a sweep wrote; put it back") from error
            trials.append(trial)
        return trials

    def add_trials(self, trials: Iterable[Trial]) -> None:
        """More trials, on the disk when this returns."""
        _mend_end(self.trials)
        _append(self.trials, [_as_line(asdict(trial)) for trial in trials])

    # --- Outcomes ---------------------------------------------------------------------------------

    def add_outcome(self, number: int, status: str, reason: str) -> None:
        _mend_end(self.outcomes)
        _append(self.outcomes, [_as_line({"trial": number, "status": status, "reason": reason})])

    def read_outcomes(self) -> dict[int, tuple[str, str]]:
        """The last of each trial."""
        return {line["trial"]: (line["status"], line["reason"]) for line in _read_lines(self.outcomes)}

    def find_outcome(self, trial: Trial, metric: str, told: Mapping[int, tuple[str, str]]) -> Outcome:
        """How a trial stands, by its own directory, and by what the sweep has told of it."""
        run = self.run(trial.number)
        status, reason = told.get(trial.number, ("waiting", None))
        try:
            summary = run.read_json(run.summary)
        except ConfigError as error:
            return Outcome("failed", reason=str(error))
        if not summary:
            return Outcome(status, reason=reason)
        stands = summary.get("status", "running")
        if stands not in ENDED and status in ("failed", "killed"):  # which a killed run cannot tell itself
            stands = status
        else:
            reason = summary.get("reason") or (reason if stands not in ENDED else None)
        final, totals = summary.get("final") or {}, summary.get("totals") or {}
        score, seconds = read_score(run, summary, metric), totals.get("seconds")
        return Outcome(stands, score, reason, int(final.get("epoch", 0)), seconds)


def read_score(run: RunDirectory, summary: Mapping[str, Any], metric: str) -> float | None:
    """The metric at the best epoch; of a cross-validation the mean over its folds."""
    if "folds" in summary:
        folds = [run.fold(number) for number in range(len(summary["folds"]))]
        scores = [read_score(fold, fold.read_json(fold.summary), metric) for fold in folds]
        return None if None in scores else sum(s for s in scores if s is not None) / len(scores)
    row = summary.get("best") or summary.get("final") or {}
    return row.get(metric)


def _as_line(contents: Mapping[str, Any]) -> str:
    return json.dumps(contents, separators=(",", ":")) + "\n"


def _append(path: Path, lines: list[str]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error}); what was there before is intact") from error


def _mend_end(path: Path) -> None:
    """Cut off a last line that a kill has torn."""
    if path.is_file():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Raises ConfigError for a line that is no mapping, but for a torn last one."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # after the last end of a line is nothing, or what is torn
        try:
            contents = json.loads(line)
            assert isinstance(contents, dict)
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"{path}: line {number} is not what a sweep wrote; put it back") from error
        yield contents
