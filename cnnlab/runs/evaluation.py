"""A trained run's loss and metrics, computed again from its checkpoint, and its scores class by class."""

from __future__ import annotations

import json
from typing import Any

from cnnlab.engine.evaluate import evaluate
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import build_criterion
from cnnlab.runs.classes import ClassScore, average, score_classes, write_table
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.trained import load_trained


def evaluate_run(path: str, part: str = "test", checkpoint: str = "best") -> dict[str, Any]:
    """Loss and metrics of a run's network on "train", "valid" or "test" images, without augmentation.

    Where labels are classes, "classes" has a score for each and "confusion" the matrix: a row each class, a column
    each prediction.

    Raises ConfigError if the run has no such part.
    """
    run = RunDirectory.open(path)
    trained = load_trained(run, checkpoint)
    parts = trained.read_parts()
    if part not in parts:
        raise ConfigError(f"--part {part}: this run has no such images; expected one of {', '.join(sorted(parts))}")
    labels = parts["train"].labels
    criterion = build_criterion(trained.config, trained.facts, trained.network.device, labels)
    metrics = evaluate(trained.network, criterion, parts[part].in_order())
    by_class: dict[str, Any] = {}
    if metrics.confusion is not None:
        scores = score_classes(metrics.confusion, trained.facts.classes)
        by_class["classes"] = [score._asdict() for score in scores]
        by_class["mean_of_classes"] = average(scores)._asdict()
        by_class["confusion"] = metrics.confusion.tolist()
    return {
        "run": str(run),
        "checkpoint": trained.weights.name,
        "part": part,
        "images": parts[part].num_examples,
        **metrics.values,
        **by_class,
    }


def print_evaluation(evaluation: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(evaluation, indent=2))
    else:
        metrics = " ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in evaluation.items() if isinstance(value, float)
        )
        print(
            f"{evaluation['run']} {evaluation['checkpoint']} on {evaluation['images']:,} {evaluation['part']} images: "
            f"{metrics}"
        )
        if "classes" in evaluation:
            print("\n" + write_table([ClassScore(**score) for score in evaluation["classes"]]))
