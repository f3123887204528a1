"""Loss and metrics of trained weights, a run's or anybody's, on a dataset; and scores class by class."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from cnnlab.config import Config
from cnnlab.data import Facts
from cnnlab.data.batches import Batches
from cnnlab.device import start_device
from cnnlab.engine.evaluate import evaluate
from cnnlab.engine.network import Network
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import build_criterion, require_normalisation
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.experiment.network import build_network
from cnnlab.experiment.normalisation import settle_normalisation
from cnnlab.prefixes import starts
from cnnlab.runs.classes import ClassScore, average, score_classes, write_table
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.trained import find_changed, load_trained

# Keys, and groups of keys, that have done their work once a network is trained.
OF_TRAINING = (
    *("epochs", "steps", "examples", "sampling", "learn_hardest", "seed"),
    *("augment", "optimizer", "schedule", "average", "logger", "sweep"),
    *(f"model.{key}" for key in ("init", "init_from_data", "weights", "feature_views")),
    *(f"model.{key}" for key in ("freeze", "unfreeze_after", "freeze_after")),
    *(f"engine.{key}" for key in ("micro_batch_size", "sync_batch_norm", "log_every", "checkpoint_every")),
    *(f"engine.{key}" for key in ("select_by", "stop_by", "patience", "min_delta", "max_time")),
)


def evaluate_run(
    path: str, part: str | None = None, checkpoint: str = "best", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """What `measure` tells of a run's network, with "run" and "checkpoint". Raises ConfigError, or DataError.

    "changed" names the parts of the dataset that are not what the run began with.
    """
    require_effect(overrides)
    run = RunDirectory.open(path)
    trained = load_trained(run, checkpoint, overrides)
    parts = trained.read_parts()
    measured = measure(trained.config, trained.facts, trained.network, parts, part)
    changed = find_changed(run, {name: batches.fingerprint() for name, batches in parts.items()})
    return {"run": str(run), "checkpoint": trained.weights.name, "changed": changed, **measured}


def require_effect(overrides: Sequence[str]) -> None:
    """Raises ConfigError for changes that leave a trained network and its images as they are."""
    given = [text.partition("=")[0] for text in overrides]
    idle = [key for key in given if any(starts(key, name) for name in OF_TRAINING)]
    if idle:
        raise ConfigError(
            [
                f"{key}: changes nothing of a trained run; expected keys of dataset, split, loss or engine"
                for key in idle
            ]
        )


def evaluate_weights(config: Config, part: str | None = None) -> dict[str, Any]:
    """What `measure` tells of the network of a configuration with its `model.weights`, which "weights" names.

    Raises ConfigError where there are none, or where they leave out the last layer.
    """
    source = config.model.shared.weights
    if source is None:
        raise ConfigError("model.weights: null was given; expected trained weights: a file, a run, or DEFAULT")
    device = start_device(config.engine.device, config.engine.threads, config.engine.deterministic)
    dataset = build_dataset(config)
    config = settle_normalisation(config, dataset.facts)
    require_normalisation(config, dataset.facts)
    network = build_network(config, dataset.facts, device, trained=False, new_head=False)
    network.model.eval()
    return {"weights": source, **measure(config, dataset.facts, network, read_parts(config, dataset, device), part)}


def measure(
    config: Config, facts: Facts, network: Network, parts: dict[str, Batches], part: str | None
) -> dict[str, Any]:
    """Loss and metrics of a network on "train", "valid" or "test" images, without augmentation.

    Without a `part` on the test images or, where there are none, the validation images, which is said.

    "classes" has a score for each class, or each of several labels; where an image has one class "confusion" is the
    matrix: a row each class, a column each prediction.

    Raises ConfigError if there is no such part.
    """
    if part is None:
        part = "test" if "test" in parts or "valid" not in parts else "valid"
        if part == "valid":
            print("no test images: evaluated on the validation images, which chose the checkpoint", file=sys.stderr)
    if part not in parts:
        raise ConfigError(f"--part {part}: there are no such images; expected one of {', '.join(sorted(parts))}")
    criterion = build_criterion(config, facts, network.device, parts["train"].labels)
    views = config.engine.tta if part == "test" else "none"  # as in the run
    metrics = evaluate(network, criterion, parts[part].in_order(), config.metrics, views=views)
    by_class: dict[str, Any] = {}
    if metrics.hits is not None:
        scores = score_classes(metrics.hits, facts.classes)
        by_class["classes"] = [score._asdict() for score in scores]
        by_class["mean_of_classes"] = average(scores)._asdict()
    if metrics.confusion is not None:
        by_class["confusion"] = metrics.confusion.tolist()
    return {"part": part, "images": parts[part].num_examples, **metrics.values, **by_class}


def print_evaluation(evaluation: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(evaluation, indent=2))
    else:
        metrics = " ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in evaluation.items() if isinstance(value, float)
        )
        what = evaluation["weights"] if "weights" in evaluation else f"{evaluation['run']} {evaluation['checkpoint']}"
        if evaluation.get("changed"):
            changed = ", ".join(evaluation["changed"])
            print(f"other images, labels or split than the run began with: {changed}", file=sys.stderr)
        print(f"{what} on {evaluation['images']:,} {evaluation['part']} images: {metrics}")
        if "classes" in evaluation:
            print("\n" + write_table([ClassScore(**score) for score in evaluation["classes"]]))
