"""What a page tells of a run: read from its directory and, with its images at hand, computed by its network.

A run may be half written, damaged, of an older version, or without its images: what there is is read, and what is not
there is told in `missing`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from cnnlab.data.batches import Batches
from cnnlab.errors import CnnlabError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.trained import Trained, find_changed, load_trained

T = TypeVar("T")
MAPPINGS = ("best", "final", "test", "totals", "speed", "images", "peak_memory_mb", "mean")  # of summary.json


@dataclass(frozen=True)
class Evaluation:
    """The images that a run was evaluated on, and the network's outputs for them."""

    part: str
    batches: Batches
    outputs: Tensor  # float64 (N, outputs)
    labels: Tensor


@dataclass
class Evidence:
    """Everything that is known of a run."""

    run: RunDirectory
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    classes: list[list[str]] = field(default_factory=list)  # classes.csv, its header first
    trained: Trained | None = None
    evaluation: Evaluation | None = None
    valid: Evaluation | None = None  # what a temperature is fitted on
    missing: list[str] = field(default_factory=list)

    def attempt(self, what: str, act: Callable[[], T], otherwise: T) -> T:
        """What `act` returns; if it cannot, that is told, and there is something else in its place."""
        try:
            return act()
        except CnnlabError as error:
            self.missing.append(f"{what}: {error}")
        except Exception as error:  # of a damaged file anything may come
            self.missing.append(f"{what}: {type(error).__name__}: {error}")
        return otherwise


def read_evidence(run: RunDirectory) -> Evidence:
    """The files of a run directory, without its network."""
    found = Evidence(run)
    found.summary = found.attempt("summary", lambda: run.read_json(run.summary), {})
    for key in set(MAPPINGS) & found.summary.keys():
        found.summary[key] = as_mapping(found.summary[key])
    found.config = found.attempt("configuration", run.read_config, {})
    found.environment = found.attempt("environment", lambda: run.read_json(run.environment), {})
    found.rows = found.attempt("curves", run.read_metrics, [])
    found.classes = found.attempt("classes", lambda: read_rows(run), [])
    if not found.summary:
        found.missing.append(f"summary: there is no {run.summary.name}")
    elif found.summary.get("status") != "completed":
        found.missing.append(f"the end: the run is {found.summary.get('status')}; what follows is as far as it came")
    if not found.rows:
        found.missing.append(f"curves: {run.metrics.name} has no epoch yet")
    return found


def as_mapping(value: Any) -> dict[str, Any]:
    """What a damaged file has in the place of a mapping is an empty one."""
    return value if isinstance(value, dict) else {}


def read_rows(run: RunDirectory) -> list[list[str]]:
    """classes.csv, its header first; nothing where there is none."""
    if not run.classes.is_file():
        return []
    with run.classes.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row]


def add_evaluations(found: Evidence, overrides: Sequence[str] = ()) -> None:
    """Let the network predict its images again, as far as both are there."""
    run = found.run
    found.trained = found.attempt("network", lambda: load_trained(run, overrides=overrides), None)
    if found.trained is None:
        return
    trained = found.trained
    parts: dict[str, Batches] = found.attempt("images", trained.read_parts, {})
    if not parts:
        found.missing.append("confusion matrix, pictures, calibration: they need the images")
        return
    changed = find_changed(run, {part: batches.fingerprint() for part, batches in parts.items()})
    if changed:
        found.missing.append(
            f"images as the run began with: those of {', '.join(changed)} are others now, and so are numbers below"
        )
    evaluations: dict[str, Evaluation | None] = {}
    for part in [part for part in ("valid", "test") if part in parts]:
        evaluations[part] = found.attempt(f"{part} images", partial(evaluate, trained, part, parts[part]), None)
    found.valid = evaluations.get("valid")
    found.evaluation = evaluations.get("test") or found.valid
    if found.evaluation is None:
        found.missing.append("confusion matrix, pictures, calibration: there are no test and no validation images")


def evaluate(trained: Trained, part: str, batches: Batches) -> Evaluation:
    """What the run itself made of a part, if this was evaluated in its end: by the same views of each image."""
    in_order = batches.in_order()
    views = trained.config.engine.tta if part == "test" else "none"
    return Evaluation(part, in_order, trained.compute_outputs(in_order, views), in_order.labels.cpu())


def order_by(values: Tensor, chosen: Tensor, descending: bool) -> Tensor:
    """The positions that are `chosen` (bool), by their values: int64 (N,)."""
    positions = chosen.nonzero().flatten()
    return positions[torch.argsort(values[positions], descending=descending, stable=True)]
