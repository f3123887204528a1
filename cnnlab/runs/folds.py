"""Stratified cross-validation: a run for each fold, and the score over images that its network did not learn from.

outputs/<name>/<date_time>/
  config.yaml overrides.yaml       with `folds: 5`
  fold_0/ … fold_4/                whole runs, with `folds: 5, fold: 0` and so on
  out_of_fold.csv                  each training image as the one network saw it that did not train on it
  summary.json                     the folds' scores, their mean and standard deviation
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from torch import Tensor

from cnnlab.config import Config
from cnnlab.errors import ConfigError
from cnnlab.experiment import assemble, build_dataset, read_config
from cnnlab.runs import training
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.predict import answer_in_chunks, format_table, read_part
from cnnlab.runs.trained import load_network
from cnnlab.tasks import SMALLEST, Task


def start(config: Config, overrides: list[str]) -> RunDirectory:
    """A new run, or a directory with one for each fold; `overrides` is what was typed."""
    if config.num_runs == 1:
        return training.start(config, overrides)
    assemble(replace(config, fold=0))  # what is wrong is told before there is a directory
    whole = RunDirectory.claim(config.output_dir, config.name)
    whole.write_yaml(whole.overrides, overrides)
    whole.write_yaml(whole.config, asdict(config))
    train_folds(whole, config, overrides)
    return whole


def resume(path: str, overrides: list[str]) -> RunDirectory:
    """Go on with a run, or with those folds of a cross-validation that are not complete."""
    whole = RunDirectory.open(path)
    config = read_config(whole.read_config())
    if config.num_runs == 1:
        return training.resume(path, overrides)
    if overrides:
        raise ConfigError(
            f"{' '.join(overrides)}: {whole} holds the folds of a cross-validation, which go on as they began; "
            "expected no changes"
        )
    train_folds(whole, config, whole.read_overrides())
    return whole


def train_folds(whole: RunDirectory, config: Config, overrides: list[str]) -> None:
    """Train what is missing, gather what each network says of the images it did not see, print the score."""
    summary: dict[str, Any] = {"status": "running", "reason": None}
    with whole.locked(whole.config), training.keeping_summary(whole, summary):
        for number in range(config.num_runs):
            print(f"fold {number} of {config.num_runs}", flush=True)
            train_fold(whole.fold(number), replace(config, fold=number), overrides)
        summary |= gather(whole, config)
        print(describe(summary))


def train_fold(run: RunDirectory, config: Config, overrides: list[str]) -> None:
    """Begin a fold, go on with it, or leave it as it is if it is through."""
    if run.read_json(run.summary).get("status") == "completed":
        return
    if run.config.is_file():
        training.resume(str(run), [])
        return
    run.path.mkdir(exist_ok=True)
    run.write_yaml(run.overrides, [*overrides, f"fold={config.fold}"])
    training.train(config, run, assemble(config), run.read_json(run.summary).get("engine") or {})


def gather(whole: RunDirectory, config: Config) -> dict[str, Any]:
    """out_of_fold.csv; returns the scores of each fold, their means and standard deviations."""
    dataset = build_dataset(config)
    folds: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for number in range(config.num_runs):
        member = load_network(whole.fold(number))
        held_out = read_part(member, "valid")
        assert held_out.labels is not None
        scores = np.concatenate(list(answer_in_chunks([member], held_out.images)))
        folds.append({"fold": number, "images": len(scores), **measure(dataset.task, scores, held_out.labels)})
        header, *table = format_table(dataset, held_out, scores)
        rows += [[name, str(number), *rest] for name, *rest in table]
    rows.sort(key=lambda row: int(row[0]))
    whole.write_csv(whole.out_of_fold, [["id", "fold", *header[1:]], *rows])
    metrics = [name for name in folds[0] if name not in ("fold", "images")]
    values = {name: [fold[name] for fold in folds] for name in metrics}
    return {
        "folds": folds,
        "mean": {name: statistics.mean(values[name]) for name in metrics},
        "deviation": {name: statistics.stdev(values[name]) for name in metrics},  # of a sample: n - 1
    }


def measure(task: Task, scores: np.ndarray, labels: Tensor) -> dict[str, float]:
    """Accuracy and log loss of probabilities (N, classes) for labels (N,), or the mean absolute error of numbers."""
    if task == "regression":
        return {"mae": float(np.abs(scores - labels.numpy()).mean())}
    right = scores[np.arange(len(scores)), labels.numpy()]
    return {
        "accuracy": float((scores.argmax(1) == labels.numpy()).mean()),
        "log_loss": float(-np.log(right.clip(min=SMALLEST)).mean()),
    }


def describe(summary: dict[str, Any]) -> str:
    texts = [
        f"{name.replace('_', ' ')} {mean:.4f} ± {summary['deviation'][name]:.4f}"
        for name, mean in summary["mean"].items()
    ]
    return f"out of fold, {len(summary['folds'])} folds: {', '.join(texts)}"
