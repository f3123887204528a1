"""The run directory: its file names, and how to claim, lock, fill and read one.

It appears whole: configuration, what was typed and a summary are written aside and renamed into place together, so
that whatever directory there is can be resumed.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import yaml

import cnnlab
from cnnlab.atomic import replacing
from cnnlab.distributed import is_main
from cnnlab.errors import CheckpointError, ConfigError, StorageError

if TYPE_CHECKING:
    from cnnlab.engine.compute import Compute

LEFT_OVER = 3600  # seconds after which nobody is making a directory any more
WHOLE_NUMBERS = ("epoch", "step")  # columns of metrics.csv

_LOCKED: set[int] = set()  # descriptors of files that this process has locked


def _leave_locks() -> None:
    """In a process that was forked off: a lock ends with the one that has it, not with the last that could."""
    for descriptor in _LOCKED:
        os.close(descriptor)
    _LOCKED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


def parse_yaml(text: str) -> Any:
    """Plain values alone, by the parser in C where PyYAML has it: ten times as fast over a thousand runs."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe


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
        self.calibration = self.path / "calibration.json"  # the temperature of its probabilities
        self.report = self.path / "report.html"
        self.trackers = self.path / "trackers.json"  # under which ids they know this run
        self.audit = self.path / "audit.csv"  # labels that look wrong
        self.twins = self.path / "twins.csv"
        self.audit_page = self.path / "audit.html"
        self.out_of_fold = self.path / "out_of_fold.csv"  # of a cross-validation
        self.curves = self.path / "plots" / "curves.png"
        self.confusion = self.path / "plots" / "confusion.png"
        self.augmented = self.path / "plots" / "augmented.png"  # training images as the network sees them
        self.mistakes = self.path / "plots" / "mistakes.png"  # the most confident ones
        self.kernels = self.path / "plots" / "kernels.png"
        self.feature_maps = self.path / "plots" / "feature_maps.png"
        self.line = self.path / "plots" / "line.png"  # where one number is fitted to one number

    def __str__(self) -> str:
        return str(self.path)

    def fold(self, number: int) -> RunDirectory:
        """The run of a fold, where this is the directory of a cross-validation."""
        return RunDirectory(self.path / f"fold_{number}")

    @classmethod
    def claim(cls, folder: Path, config: Mapping[str, Any], overrides: list[str]) -> RunDirectory:
        """A new directory in `folder` that no other run has, even one started in the same second.

        Raises StorageError if none can be made.
        """
        return next(run for run in map(cls, name_directories(folder)) if run.make(config, overrides))

    def make(self, config: Mapping[str, Any], overrides: list[str]) -> bool:
        """Make this directory, unless something is there; whether it was made. Raises StorageError."""
        if not is_main():
            return True

        def fill(aside: RunDirectory) -> None:
            aside.write_yaml(aside.config, config)
            aside.write_yaml(aside.overrides, overrides)
            facts = {"id": uuid4().hex, "cnnlab": cnnlab.__version__, "status": "running", "reason": None}
            aside.write_json(aside.summary, facts)

        return make_whole(self.path, fill)

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
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written ({error}); fix the permissions or free some space"
            ) from error
        _LOCKED.add(opened)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise StorageError(f"{self}: another process is {deed} here; wait for it or stop it") from error
        finally:
            _LOCKED.discard(opened)
            os.close(opened)

    def is_locked(self) -> bool:
        """Whether a process trains here, as far as the system tells (Windows does not: then one may)."""
        try:
            import fcntl
        except ImportError:
            return True
        try:
            with self.log.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:  # another has it; or a file system without locks
            return True
        return False

    def read_status(self) -> str:
        """As summary.json has it; "killed" where that was not told of an end, and nobody trains any more."""
        status = str(self.read_json(self.summary).get("status", "unknown"))
        return "killed" if status == "running" and not self.is_locked() else status

    # --- Writing ----------------------------------------------------------------------------------

    def write_text(self, path: Path, text: str | Iterable[str]) -> None:
        """Replace a file by `text`, which may come in pieces, all or nothing. Raises StorageError."""
        if not is_main():
            return
        try:
            with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error}); what was there before is intact") from error

    def write_over(self, path: Path, text: str) -> None:
        """Write into a file as it lies, for a disk without room for a second one. Raises StorageError."""
        try:
            with path.open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error})") from error

    def write_yaml(self, path: Path, tree: Any) -> None:
        self.write_text(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))

    def write_json(self, path: Path, contents: Mapping[str, Any]) -> None:
        self.write_text(path, json.dumps(contents, indent=2) + "\n")

    def write_csv(self, path: Path, rows: Iterable[Sequence[Any]]) -> None:
        """Floats in their shortest exact form, None as an empty cell; `rows` may be more than fit into memory."""
        self.write_text(path, _format_csv(rows))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """metrics.csv anew: after a resume it must not hold epochs that will be run again. No file without rows."""
        if rows:
            self.write_csv(self.metrics, [list(rows[0]), *(list(row.values()) for row in rows)])
        elif is_main():
            self.metrics.unlink(missing_ok=True)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """One row more, on the disk when this returns. Raises StorageError."""
        if not is_main():
            return
        if not self.metrics.is_file():
            self.write_metrics([row])
            return
        (line,) = _format_csv([list(row.values())])
        try:
            with self.metrics.open("a", encoding="utf-8", newline="") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{self.metrics}: cannot be written ({error})") from error

    # --- Reading ----------------------------------------------------------------------------------

    def read_config(self) -> dict[str, Any]:
        """The resolved tree of the run. Raises ConfigError if the file is damaged."""
        try:
            tree = parse_yaml(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())  # YAML's messages have several lines
            raise ConfigError(f"{self.config}: cannot be read ({reason}); expected what training wrote") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{self.config}: expected the mapping that training wrote, found {type(tree).__name__}")
        return tree

    def read_overrides(self) -> list[str]:
        """What was typed; empty if that was not kept."""
        try:
            typed = parse_yaml(self.overrides.read_text(encoding="utf-8")) if self.overrides.is_file() else []
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            return []
        return [str(text) for text in typed] if isinstance(typed, list) else []

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of the run; empty if it is not there yet. Raises ConfigError if it is damaged."""
        if not path.is_file():
            return {}
        remedy = "expected the mapping that training wrote: put it back, or remove the file"
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: cannot be read ({error}); {remedy}") from error
        if not isinstance(contents, dict):
            raise ConfigError(f"{path}: holds a {type(contents).__name__}; {remedy}")
        return contents

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.csv, numbers as they were written, None where a cell is empty; a torn row ends them."""
        if not self.metrics.is_file():
            return []
        rows: list[dict[str, Any]] = []
        try:
            # What is no text is replaced, for its own row to be torn and not those before it.
            with self.metrics.open(newline="", encoding="utf-8", errors="replace") as file:
                table = csv.reader(file)
                header = next(table, [])
                for cells in table:
                    rows.append({name: _read_cell(name, cell) for name, cell in zip(header, cells, strict=True)})
        except (ValueError, csv.Error):
            return rows
        except OSError as error:
            raise StorageError(f"{self.metrics}: cannot be read ({error})") from error
        return rows

    def read_id(self) -> str | None:
        """What tells this run from all others, wherever its directory is copied; None of a run before version 0.2."""
        return self.read_json(self.summary).get("id")

    def read_compute(self) -> Compute:
        """How the run computes, as far as it was decided. Before version 0.2 that was told under "engine"."""
        from cnnlab.engine.compute import Compute  # with torch, which those that only read numbers do without

        summary = self.read_json(self.summary)
        return Compute.from_dict(summary.get("compute") or summary.get("engine"))

    def find_weights(self, which: str = "best") -> Path:
        """The checkpoint to use a trained network from: "last", or the "best", which a run names when it is completed.

        Raises CheckpointError if it is not there.
        """
        if self.fold(0).path.is_dir():
            raise ConfigError(f"{self}: holds the folds of a cross-validation; expected one of them: {self.fold(0)}")
        chosen = self.read_json(self.summary).get("chosen")
        if which == "last":
            path = self.last
        elif chosen is not None:
            path = self.last.with_name(Path(chosen).name)
        else:
            path = self.best if self.best.is_file() else self.last
        if path.is_file():
            return path
        if path == self.best:
            raise CheckpointError(
                f"{path}: missing, and with it the weights that were chosen; expected the file as training left it "
                f"(cnnlab evaluate {self} --checkpoint last evaluates the last weights)"
            )
        raise CheckpointError(f"{self}: has no checkpoint yet; train it first: cnnlab resume {self}")


def _remove_leftovers(folder: Path) -> None:
    """What runs that were killed while they were made have left aside; one that is being made is younger."""
    for path in folder.glob(".*.partial"):
        with suppress(FileNotFoundError):  # it is made by now
            if path.is_dir() and time.time() - path.stat().st_mtime > LEFT_OVER:
                shutil.rmtree(path, ignore_errors=True)


def name_directories(folder: Path) -> Iterator[Path]:
    """The names for a new directory in their order: the moment, and others where that is taken."""
    moment = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    yield folder / moment
    for number in count(2):
        yield folder / f"{moment}-{number}"


def make_whole(path: Path, fill: Callable[[RunDirectory], None]) -> bool:
    """A directory that appears with all that `fill` writes, or not at all; whether it was made.

    It is filled aside and renamed. False if something is there already. Raises StorageError if it cannot be made.
    """
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        _remove_leftovers(path.parent)
        aside = RunDirectory(tempfile.mkdtemp(".partial", f".{path.name}-", path.parent))
        aside.path.chmod(0o777 & ~_read_umask())  # as mkdir makes one
        fill(aside)
        try:
            os.rename(aside.path, path)  # atomic: of two processes one finds a directory with files
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True
    except FileExistsError as error:
        raise StorageError(f"{path.parent}: is a file; expected a folder for runs") from error
    except (OSError, StorageError) as error:
        raise StorageError(
            f"{path}: the run directory cannot be made ({error}); "
            "free some space, fix the permissions, or choose another place with output_dir=FOLDER"
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside.path, ignore_errors=True)


def has_tags(config: Mapping[str, Any], tags: Iterable[str]) -> bool:
    """Whether a run with this configuration has all of these tags."""
    return set(tags) <= set(map(str, config.get("tags") or ()))


def _read_umask() -> int:
    """The bits that new files do not get, which can only be read by setting them."""
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


def _read_cell(column: str, cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if column in WHOLE_NUMBERS else float(cell)


def _format_csv(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The lines of a CSV file."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in rows:
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()
