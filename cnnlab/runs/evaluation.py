"""A trained run's loss and metric, computed again from its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnnlab.config import Config
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.evaluate import Metrics, evaluate
from cnnlab.errors import ConfigError
from cnnlab.experiment import Assembly, assemble, read_config, read_parts, without_weights
from cnnlab.runs.directory import RunDirectory


def evaluate_run(path: str, part: str = "test", checkpoint: str = "best") -> dict[str, Any]:
    """Loss and metric of a run's network on "train", "valid" or "test" images, without augmentation.

    Raises ConfigError if the run has no such part.
    """
    run = RunDirectory.open(path)
    config = read_config(run.read_config())
    weights = run.find_weights(checkpoint)
    assembly = load_trained(config, weights)
    parts = read_parts(config, assembly.dataset, assembly.device)
    if part not in parts:
        raise ConfigError(f"--part {part}: this run has no such images; expected one of {', '.join(sorted(parts))}")
    metrics = evaluate(assembly.model, assembly.loss, parts[part].in_order(), assembly.dataset.task)
    return {
        "run": str(run),
        "checkpoint": weights.name,
        "part": part,
        "images": parts[part].num_examples,
        **metrics.as_dict(),
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
        metrics = " ".join(f"{name} {evaluation[name]:.4f}" for name in Metrics._fields if name in evaluation)
        print(
            f"{evaluation['run']} {evaluation['checkpoint']} on {evaluation['images']:,} {evaluation['part']} images: "
            f"{metrics}"
        )
