"""A trained run's loss and metrics, computed again from its checkpoint, and its scores class by class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnnlab.config import Config
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.evaluate import evaluate
from cnnlab.engine.precision import set_precision
from cnnlab.errors import ConfigError
from cnnlab.experiment import Assembly, assemble, find_loss, read_config, read_parts, without_weights
from cnnlab.runs.classes import ClassScore, average, score_classes, write_table
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.trained import repeat_choice


def evaluate_run(path: str, part: str = "test", checkpoint: str = "best") -> dict[str, Any]:
    """Loss and metrics of a run's network on "train", "valid" or "test" images, without augmentation.

    Where labels are classes, "classes" has a score for each and "confusion" the matrix: a row each class, a column
    each answer.

    Raises ConfigError if the run has no such part.
    """
    run = RunDirectory.open(path)
    config = repeat_choice(read_config(run.read_config()), run)
    weights = run.find_weights(checkpoint)
    assembly = load_trained(config, weights)
    parts = read_parts(config, assembly.dataset, assembly.device)
    if part not in parts:
        raise ConfigError(f"--part {part}: this run has no such images; expected one of {', '.join(sorted(parts))}")
    loss = find_loss(config, assembly, parts["train"])
    autocast = set_precision(config.engine.precision, assembly.device)
    metrics = evaluate(assembly.model, loss, parts[part].in_order(), assembly.dataset.task, autocast)
    by_class: dict[str, Any] = {}
    if metrics.confusion is not None:
        scores = score_classes(metrics.confusion, assembly.dataset.classes)
        by_class["classes"] = [score._asdict() for score in scores]
        by_class["mean_of_classes"] = average(scores)._asdict()
        by_class["confusion"] = metrics.confusion.tolist()
    return {
        "run": str(run),
        "checkpoint": weights.name,
        "part": part,
        "images": parts[part].num_examples,
        **metrics.as_dict(),
        **by_class,
    }


def load_trained(config: Config, weights: Path) -> Assembly:
    """What a run trained, with the weights of one of its checkpoints."""
    assembly = assemble(without_weights(config))
    assembly.model.load_state_dict(load_checkpoint(weights, assembly.device)["model"])
    return assembly


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
