"""The three kinds of problem: what a network answers, and how well.

    task         labels                    outputs                     metric
    multiclass   int64 (N,), the class     (N, classes), the largest   accuracy
    binary       int64 (N,), 0 or 1        (N, 1), above 0 means 1     accuracy
    regression   float32 (N, targets)      (N, targets)                mae: mean absolute error

A dataset has a task, a loss fits some of them, and the loop does not care.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Task = Literal["multiclass", "binary", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)
METRIC: dict[Task, str] = {"multiclass": "accuracy", "binary": "accuracy", "regression": "mae"}


def as_probabilities(task: Task, outputs: Tensor) -> Tensor:
    """A network's outputs as probabilities (N, classes); those of regression stay the numbers that they are."""
    if task == "multiclass":
        return outputs.softmax(1)
    if task == "binary":
        return torch.cat([(-outputs).sigmoid(), outputs.sigmoid()], 1)
    return outputs


def add_up_score(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """The sum over a batch of that whose mean over all images is the task's metric."""
    if task == "regression":
        return (outputs - labels).abs().mean(1).sum()
    answers = outputs.argmax(1) if task == "multiclass" else outputs[:, 0] > 0
    return (answers == labels).sum()
