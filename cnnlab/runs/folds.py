"""Stratified cross-validation: a run for each fold, and the score over images that its network did not learn from.

outputs/<name>/<date_time>/
  config.yaml overrides.yaml       with `folds: 5`
  fold_0/ … fold_4/                whole runs, with `folds: 5, fold: 0` and so on
  out_of_fold.csv                  each training image as the one network saw it that did not train on it
  summary.json                     the folds' scores, their mean and standard deviation
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlab import metrics
from cnnlab.config import Config
from cnnlab.distributed import by_all, by_main, is_main
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.predict import format_table, predict_in_chunks, read_part
from cnnlab.runs.submission import EVEN
from cnnlab.runs.summary import Summary
from cnnlab.runs.trained import load_trained
from cnnlab.runs.training import require_same_images, train
from cnnlab.signature import as_yaml
from cnnlab.stopping import StopRequest
from cnnlab.tasks import LEAST_PROBABILITY, MultiLabel, Task


def train_folds(whole: RunDirectory, config: Config, stop: StopRequest, repeats: RunDirectory | None = None) -> None:
    """Train what is missing, predict for each image by the network that did not train on it, print the score.

    A cross-validation that `repeats` another computes each fold as that did.
    """
    with whole.locked(whole.config), Summary(whole) as summary:
        for number in range(config.num_runs):
            if is_main():
                print(f"fold {number} of {config.num_runs}", flush=True)
            train_fold(whole, replace(config, fold=number), stop, repeats and repeats.fold(number))
        summary.begin()
        summary.update(**by_main(lambda: collect_out_of_fold(whole, config)))
        if is_main():
            print(describe(summary.facts))


def train_fold(whole: RunDirectory, config: Config, stop: StopRequest, repeats: RunDirectory | None) -> None:
    """Begin a fold, go on with it, or leave it as it is if it is through.

    Raises DataError if it is, and was trained on other images than the next one would be.
    """
    assert config.fold is not None, "the configuration of one fold"
    run = whole.fold(config.fold)
    status = by_main(lambda: run.read_json(run.summary).get("status"))
    if status is None:
        run.make(as_yaml(config), [*whole.read_overrides(), f"fold={config.fold}"])
    experiment = by_all(lambda: build_experiment(config, assemble(config, trained=run.last.is_file())))
    if status == "completed":
        require_same_images(run, experiment.fingerprints())
        return
    decided = by_main((repeats or run).read_compute)
    train(config, run, experiment, decided, stop)


def collect_out_of_fold(whole: RunDirectory, config: Config) -> dict[str, Any]:
    """out_of_fold.csv; returns the scores of each fold, their means and standard deviations."""
    folds: list[dict[str, Any]] = []
    rows: list[tuple[int, list[str]]] = []  # after each image's index, by which they are sorted
    for number in range(config.num_runs):
        member = load_trained(whole.fold(number))
        held_out = read_part(member, "valid")
        assert held_out.labels is not None
        scores = np.concatenate(list(predict_in_chunks([member], held_out.images)))
        folds.append(
            {
                "fold": number,
                "images": len(scores),
                **measure(member.facts.task, scores, held_out.labels, config.metrics),
            }
        )
        header, *table = format_table(member.facts, held_out, scores)
        told = ([name, str(number), *rest] for name, *rest in table)
        rows += zip(held_out.indices, told, strict=True)
    rows.sort(key=lambda row: row[0])
    whole.write_csv(whole.out_of_fold, [["id", "fold", *header[1:]], *(row for _, row in rows)])
    names = [name for name in folds[0] if name not in ("fold", "images")]
    values = {name: [fold[name] for fold in folds] for name in names}
    return {
        "folds": folds,
        "mean": {name: statistics.mean(values[name]) for name in names},
        "deviation": {name: statistics.stdev(values[name]) for name in names},  # of a sample: n - 1
    }


def measure(task: Task, scores: np.ndarray, labels: Tensor, extra: Sequence[str] = ()) -> dict[str, float]:
    """Accuracy and log loss of probabilities (N, classes) for labels (N,), F1 of those of several labels an image.

    Of numbers the mean absolute error.

    `extra` are the metrics of `metrics.py` that are wanted beside.
    """
    if isinstance(task, MultiLabel):
        has = torch.from_numpy(scores > EVEN)
        right = (has == (labels == 1)).double().mean().item()
        return {"label_accuracy": right, **task.measure_f1(task.count_hits(has, labels))}
    if not task.has_classes:
        return {"mae": float(np.abs(scores - labels.numpy()).mean())}
    right = scores[np.arange(len(scores)), labels.numpy()]
    return {
        "accuracy": float((scores.argmax(1) == labels.numpy()).mean()),
        "log_loss": float(-np.log(right.clip(min=LEAST_PROBABILITY)).mean()),
        **metrics.measure(extra, scores, labels.numpy()),
    }


def describe(summary: dict[str, Any]) -> str:
    texts = [
        f"{name.replace('_', ' ')} {mean:.4f} ± {summary['deviation'][name]:.4f}"
        for name, mean in summary["mean"].items()
    ]
    return f"out of fold, {len(summary['folds'])} folds: {', '.join(texts)}"
