"""The run directory: its file names, and how to claim, lock, fill and read one."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from cnnlab.distributed import is_main
from cnnlab.errors import CheckpointError, ConfigError, StorageError

METRICS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_accuracy",
    "valid_log_loss",
    "lr",
    "seconds",
    "images_per_second",
)
REGRESSION_METRICS = ("train_mae", "valid_mae")  # behind them where labels are numbers
TIMINGS = ("seconds", "images_per_second")  # columns that no two runs share


class RunDirectory:
    """outputs/<name>/<date_time>[-k]/ and what lies in it. Of many processes the main one alone writes."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"  # resolved, enough to run again
        self.overrides = self.path / "overrides.yaml"  # what was typed
        self.environment = self.path / "environment.json"
        self.log = self.path / "train.log"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"
        self.classes = self.path / "classes.csv"  # precision, recall and F1 of each, at the end
        self.last = self.path / "checkpoints" / "last.pt"
        self.previous = self.path / "checkpoints" / "previous.pt"  # the last.pt before
        self.best = self.path / "checkpoints" / "best.pt"
        self.dataset = self.path / "dataset.json"  # what the network was trained for: classes, size, normalisation
        self.predictions = self.path / "predictions.csv"
        self.submission = self.path / "submission.csv"
        self.scores = self.path / "scores.partial"  # of a prediction that is not through yet
        self.out_of_fold = self.path / "out_of_fold.csv"  # of a cross-validation
        self.curves = self.path / "plots" / "curves.png"
        self.confusion = self.path / "plots" / "confusion.png"
        self.kernels = self.path / "plots" / "kernels.png"
        self.feature_maps = self.path / "plots" / "feature_maps.png"
        self.line = self.path / "plots" / "line.png"  # where one number is fitted to one number

    def __str__(self) -> str:
        return str(self.path)

    def fold(self, number: int) -> RunDirectory:
        """The run of a fold, where this is the directory of a cross-validation."""
        return RunDirectory(self.path / f"fold_{number}")

    @classmethod
    def claim(cls, output_dir: str, name: str) -> RunDirectory:
        """A new directory that no other run has, even one started in the same second.

        Raises StorageError if none can be made.
        """
        moment = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        number = 1
        while True:
            path = Path(output_dir, name, moment if number == 1 else f"{moment}-{number}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()  # atomic: of two processes one gets FileExistsError
            except FileExistsError:
                if not path.exists():
                    raise StorageError(f"{path.parent}: is a file; expected a folder for runs") from None
                number += 1
                continue
            except OSError as error:
                raise StorageError(
                    f"{path}: the run directory cannot be made ({error}); "
                    "free some space, mend the permissions, or choose another place with output_dir=FOLDER"
                ) from error
            return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run. Raises ConfigError if `path` is none."""
        run = cls(path)
        if not run.config.is_file():
            raise ConfigError(
                f"{path}: no run here (it has no config.yaml); expected a run directory such as outputs/NAME/DATE_TIME"
            )
        return run

    @contextmanager
    def locked(self, file: Path | None = None, deed: str = "training") -> Iterator[None]:
        """Keeps other processes from training here meanwhile, and lets go however this one ends.

        `file` (the log, unless given) is what processes that do the same deed lock. Raises StorageError if
        another process has it.
        """
        if not is_main():
            yield
            return
        try:
            import fcntl
        except ImportError:  # Windows has no such locks; nothing else depends on them
            yield
            return
        path = file or self.log
        try:
            opened = path.open("a")
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written ({error}); mend the permissions or free some space"
            ) from error
        with opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StorageError(f"{self}: another process is {deed} here; wait for it or stop it") from error
            yield

    # --- Writing ----------------------------------------------------------------------------------

    def write_text(self, path: Path, text: str | Iterable[str]) -> None:
        """Replace a file by `text`, which may come in pieces, all or nothing. Raises StorageError."""
        if not is_main():
            return
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8", newline="") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(f"{path}: cannot be written ({error}); what was there before is intact") from error

    def write_yaml(self, path: Path, tree: Any) -> None:
        self.write_text(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))

    def write_json(self, path: Path, contents: Mapping[str, Any]) -> None:
        self.write_text(path, json.dumps(contents, indent=2) + "\n")

    def write_csv(self, path: Path, rows: Iterable[Sequence[Any]]) -> None:
        """Floats in their shortest exact form, None as an empty cell; `rows` may be more than fit into memory."""
        self.write_text(path, _format_csv(rows))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """metrics.csv anew: after a resume it must not hold epochs that will be run again."""
        added = REGRESSION_METRICS if any(REGRESSION_METRICS[0] in row for row in rows) else ()
        columns = (*METRICS, *added)
        self.write_csv(self.metrics, [columns, *([row.get(column) for column in columns] for row in rows)])

    # --- Reading ----------------------------------------------------------------------------------

    def read_config(self) -> dict[str, Any]:
        """The resolved tree of the run. Raises ConfigError if the file is damaged."""
        try:
            tree = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{self.config}: cannot be read ({error})") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{self.config}: expected the mapping that training wrote, found {type(tree).__name__}")
        return tree

    def read_overrides(self) -> list[str]:
        """What was typed; empty if that was not kept."""
        return yaml.safe_load(self.overrides.read_text(encoding="utf-8")) if self.overrides.is_file() else []

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of the run; empty if it is not there yet."""
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def read_metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv as text, which is exact."""
        if not self.metrics.is_file():
            return []
        with self.metrics.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def find_weights(self, which: str = "best") -> Path:
        """The checkpoint to use a trained network from: the best, or the last where nothing was selected."""
        if which == "best" and not self.best.is_file():
            which = "last"
        path = {"best": self.best, "last": self.last}[which]
        if self.fold(0).path.is_dir():
            raise ConfigError(f"{self}: holds the folds of a cross-validation; expected one of them: {self.fold(0)}")
        if not path.is_file():
            raise CheckpointError(f"{self}: has no checkpoint yet; train it first: cnnlab resume {self}")
        return path


def _format_csv(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The lines of a CSV file."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in rows:
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()
