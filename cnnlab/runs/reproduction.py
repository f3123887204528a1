"""Running a saved configuration again, and comparing what came out number by number."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import torch

from cnnlab.engine.checkpoint import read_weights
from cnnlab.errors import ConfigError
from cnnlab.metrics import TIMINGS
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.saved import read_saved
from cnnlab.runs.start import start
from cnnlab.signature import flatten

# Of environment.json: how the run was called says nothing about the machine.
NOT_ENVIRONMENT = ("command",)

Difference = tuple[str, str, str, str]  # where, which number, first run, second run


def reproduce(path: str, overrides: list[str]) -> bool:
    """Run the configuration of a completed run in a new directory and print how the two compare.

    Of a cross-validation every fold. Returns whether every number but the timings is the same, and so is every weight.
    """
    first = RunDirectory.open(path)
    status = first.read_json(first.summary).get("status")
    if status != "completed":
        raise ConfigError(f"{path}: is {status}, not completed; finish it first: cnnlab resume {path}")
    config = read_saved(first, overrides)
    second = start(config, overrides, repeats=first)
    pairs = [(first, second)]
    if config.num_runs > 1:
        pairs = [(first.fold(number), second.fold(number)) for number in range(config.num_runs)]
    print(f"\n{first}\n{second}")
    is_same = True
    for old, new in pairs:
        if len(pairs) > 1:
            print(f"\n{old.path.name}:")
        is_same &= compare_runs(old, new)
    return is_same


def compare_runs(first: RunDirectory, second: RunDirectory) -> bool:
    """Print how two runs compare; whether all of their numbers and weights are the same."""
    rows = first.read_metrics()
    differences = compare_metrics(rows, second.read_metrics())
    differences += compare_summaries(first.read_json(first.summary), second.read_json(second.summary))
    weights = same_weights(first, second)
    if not differences and weights:
        print(f"identical: {len(rows)} epochs, the test metrics and every weight")
        return True
    print_differences(differences, weights)
    print_environments(first.read_json(first.environment), second.read_json(second.environment))
    return False


def compare_metrics(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[Difference]:
    """Every number that differs between two metrics.csv, row by row, timings apart."""
    differences = []
    pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]] = zip_longest(first, second, fillvalue={})
    for old, new in pairs:
        epoch = old.get("epoch") or new.get("epoch")
        for column in dict.fromkeys([*old, *new]):
            if column not in TIMINGS and old.get(column) != new.get(column):
                differences.append((f"epoch {epoch}", column, str(old.get(column, "-")), str(new.get(column, "-"))))
    return differences


def compare_summaries(first: dict[str, Any], second: dict[str, Any]) -> list[Difference]:
    old, new = first.get("test") or {}, second.get("test") or {}
    return [
        ("end", f"test_{key}", str(old.get(key, "-")), str(new.get(key, "-")))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def same_weights(first: RunDirectory, second: RunDirectory) -> bool:
    """Whether the last checkpoints hold the same model bit for bit."""
    old, new = (read_weights(run.find_weights("last")) for run in (first, second))
    return old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)


def print_differences(differences: list[Difference], weights: bool) -> None:
    where = differences[0][0] if differences else "the weights alone"
    print(f"different, first at {where}; the weights at the end are {'the same' if weights else 'different'}\n")
    table = [("where", "number", "saved run", "new run"), *differences]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_environments(first: dict[str, Any], second: dict[str, Any]) -> None:
    """What is not the same about the machines and the versions."""
    old, new = flatten(first), flatten(second)
    keys = sorted((old.keys() | new.keys()) - {*NOT_ENVIRONMENT})
    changed = [key for key in keys if old.get(key) != new.get(key)]
    print("\nenvironment: " + ("no difference known" if not changed else ""))
    for key in changed:
        print(f"  {key}: {old.get(key)} → {new.get(key)}")
