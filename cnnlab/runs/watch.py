"""`cnnlab watch`: the curves of a run, or of the newest runs in a folder, as text while metrics.csv grows.

Plain characters, so that they arrive over any connection.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlab.errors import CnnlabError, ConfigError, printable
from cnnlab.runs.directory import RunDirectory

CLEAR = "\x1b[H\x1b[2J"  # the screen
HEIGHT = 12  # lines of a curve
MAX_RUNS = 8  # of a folder, the newest
MARKS = {"train": "·", "valid": "o"}
Rows = Sequence[Mapping[str, Any]]


def watch(path: str, every: float, once: bool) -> None:
    """Draw again whenever there is something new, until no run here is running any more, or Ctrl-C.

    Raises ConfigError where there is no run.
    """
    shown = ""
    try:
        while True:
            runs = find_newest(Path(path))
            width = min(shutil.get_terminal_size().columns, 120)
            text = draw_run(runs[0], width) if is_run(Path(path)) else draw_runs(Path(path), runs, width)
            if text != shown:
                print((CLEAR if sys.stdout.isatty() and not once else "") + text, flush=True)
                shown = text
            if once or not any(read_status(run) == "running" for run in runs):
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def is_run(path: Path) -> bool:
    return RunDirectory(path).config.is_file()


def find_newest(path: Path) -> list[RunDirectory]:
    """The run itself, or those below a folder whose metrics changed last. Raises ConfigError where there is none."""
    if is_run(path):
        return [RunDirectory(path)]
    found = [
        RunDirectory(where)
        for where, folders, files in (os.walk(path) if path.is_dir() else ())
        if not os.path.basename(where).startswith(".") and "config.yaml" in files
    ]
    if not found:
        raise ConfigError(f"{path}: no run here, and none below; expected outputs/NAME/DATE_TIME, or outputs")
    return sorted(found, key=find_last_change, reverse=True)[:MAX_RUNS]


def find_last_change(run: RunDirectory) -> float:
    return max((path.stat().st_mtime for path in (run.metrics, run.config) if path.is_file()), default=0.0)


def read_status(run: RunDirectory) -> str:
    try:
        return run.read_status()
    except CnnlabError:  # it may be being damaged just now
        return "unknown"


# --- Text ---------------------------------------------------------------------------------------------


def draw_run(run: RunDirectory, width: int) -> str:
    """Loss and score of one run, train and valid, one below the other."""
    rows = run.read_metrics()
    lines = [f"{printable(run)}: {read_status(run)}, {describe_last(rows)}"]
    titles = [column.removeprefix("train_") for column in rows[0] if column.startswith("train_")] if rows else []
    for title in titles:
        curves = {part: read_curve(rows, f"{part}_{title}") for part in MARKS}
        legend = ", ".join(f"{MARKS[part]} {part}" for part, curve in curves.items() if curve)
        lines += ["", f"{title} ({legend})", *draw_curves(curves, width)]
    return "\n".join(lines)


def draw_runs(folder: Path, runs: Sequence[RunDirectory], width: int) -> str:
    """A line for each run, and the curves of the newest."""
    lines = []
    for run in runs:
        rows = run.read_metrics()
        lines.append(f"{printable(run.path.relative_to(folder))}: {read_status(run)}, {describe_last(rows)}")
    return "\n".join([*lines, "", draw_run(runs[0], width)])


def describe_last(rows: Rows) -> str:
    if not rows:
        return "no epoch yet"
    last = rows[-1]
    told = [f"{name.replace('_', ' ')} {last[name]:.4f}" for name in last if is_told(name) and last[name] is not None]
    return ", ".join([f"epoch {last.get('epoch')}", *told])


def is_told(column: str) -> bool:
    return column.startswith(("train_", "valid_")) and not column.endswith("log_loss")


def read_curve(rows: Rows, column: str) -> list[tuple[float, float]]:
    """Epochs and values, as far as they are finite numbers."""
    points = [(row.get("epoch"), row.get(column)) for row in rows]
    return [(float(x), float(y)) for x, y in points if x is not None and y is not None and math.isfinite(y)]


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float]]], width: int) -> list[str]:
    """Points on a grid of characters, the least and the largest value beside it, epochs below."""
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ["  nothing yet"]
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    labels = f"{high:.4g}", f"{low:.4g}"
    margin = max(map(len, labels))
    columns = max(width - margin - 3, 10)
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for part, curve in curves.items():
        for x, y in curve:
            column = round((x - left) / (right - left or 1) * (columns - 1))
            row = round((high - y) / (high - low or 1) * (HEIGHT - 1))
            grid[row][column] = MARKS[part]
    beside = [labels[0], *[""] * (HEIGHT - 2), labels[1]]
    lines = [f"{label:>{margin}} │{''.join(row)}".rstrip() for label, row in zip(beside, grid, strict=True)]
    ends = f"{left:g}", f"{right:g}"
    below = f"{'':{margin}} └{'─' * columns}", f"{'':{margin}}  {ends[0]}{ends[1]:>{columns - len(ends[0])}}"
    return [*lines, *below]
