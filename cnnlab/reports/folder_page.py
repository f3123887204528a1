"""The page of a folder: an index of all runs below it, to be sorted and filtered, each with a sparkline."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnlab.reports.evidence import Evidence, as_mapping, read_evidence
from cnnlab.reports.page import render
from cnnlab.runs.directory import RunDirectory, has_tags

SCORES = ("accuracy", "label_accuracy", "macro_f1", "mae")  # shown where some run has them


@dataclass(frozen=True)
class IndexRow:
    """A run in the index."""

    name: str
    link: str | None  # to its report, or its directory
    cells: Sequence[Any]
    points: str  # of the sparkline
    spark: str


def write_folder_page(folder: Path, tags: Sequence[str] = ()) -> str:
    """The index of all runs below a folder that have all of these tags."""
    found = [read_evidence(run) for run in find_runs(folder)]
    runs = [each for each in found if has_tags(each.config, tags)]
    scores = [name for name in SCORES if any(has_score(each, name) for each in runs)] or ["accuracy"]
    rows = [tell_run(folder, each, scores) for each in runs]
    return render(
        "folder.html",
        [],
        {},
        title=f"Runs in {folder.resolve().name}",
        subtitle=f"{len(runs):,} runs; a heading sorts, a name leads to the run's report or to its directory",
        headings=list_headings(scores),
        rows=rows,
        missing=[],
    )


def find_runs(folder: Path) -> Iterator[RunDirectory]:
    """All run directories below, folds included, by path; what is hidden is passed over."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in ("checkpoints", "plots")
        )
        if "config.yaml" in files:
            yield RunDirectory(path)


def has_score(found: Evidence, name: str) -> bool:
    return f"valid_{name}" in found.summary.get("final", {}) or any(
        name in found.summary.get(key, {}) for key in ("test", "mean")
    )


def list_headings(scores: Sequence[str]) -> list[str]:
    shown = [name.replace("_", " ") for name in scores]
    return [
        "run", "status", "model", "dataset", "epochs", "best epoch", *(f"valid {name}" for name in shown), "valid loss",
        *(f"test {name}" for name in shown), "test log loss", "parameters", "seconds", "tags", "note",
    ]  # fmt: skip


def tell_run(folder: Path, found: Evidence, scores: Sequence[str]) -> IndexRow:
    summary, run = found.summary, found.run
    best, test, totals, final, mean = (summary.get(key, {}) for key in ("best", "test", "totals", "final", "mean"))
    final = best or final
    names = [as_mapping(found.config.get(group)).get("name") for group in ("model", "dataset")]
    cells = [
        summary.get("status"), *names, totals.get("epochs"), best.get("epoch"),
        *(final.get(f"valid_{name}", mean.get(name)) for name in scores), final.get("valid_loss"),
        *(test.get(name) for name in scores), test.get("log_loss"), summary.get("parameters"), totals.get("seconds"),
        ", ".join(map(str, found.config.get("tags") or ())), found.config.get("note") or "",
    ]  # fmt: skip
    column = next(
        (c for c in ("valid_accuracy", "valid_loss", "train_loss") if any(r.get(c) is not None for r in found.rows)), ""
    )
    values = [v for row in found.rows if (v := row.get(column)) is not None and math.isfinite(v)]
    path = run.path.relative_to(folder)
    target = path / run.report.name if run.report.is_file() else path
    return IndexRow(
        str(path) if str(path) != "." else run.path.resolve().name,
        quote(os.fsencode(target)),
        cells,
        draw_spark(values),
        f"{column.replace('_', ' ')} {values[0]:.3g} → {values[-1]:.3g}" if len(values) > 1 else "",
    )


def draw_spark(values: Sequence[float]) -> str:
    """Points of a polyline in a box of 100×24."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    height = high - low or 1
    return " ".join(
        f"{100 * k / (len(values) - 1):.1f},{22 - 20 * (v - low) / height:.1f}" for k, v in enumerate(values)
    )
