"""The names of metrics and the columns that they make of metrics.csv; and those that are computed on request.

On request scikit-learn computes beside loss, accuracy and log loss, from all images at once:

    auc                 area under the ROC curve; of several classes the mean over one against the rest, of those there
    macro_f1            mean of the classes' F1
    balanced_accuracy   mean of the classes' recall, of those there
    kappa               Cohen's: agreement beyond chance
    quadratic_kappa     for classes in an order, such as grades: a miss counts by the square of its distance
    top5_accuracy       whether the class is among the five likeliest

Higher is better for all. scikit-learn is an optional extra: pip install "cnnlab[metrics]".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlab.errors import ConfigError, DataError

METRICS = ("auc", "macro_f1", "balanced_accuracy", "kappa", "quadratic_kappa", "top5_accuracy")  # on request

# Of an evaluation, by what the labels are.
OF_CLASSES = ("loss", "accuracy", "log_loss")
OF_LABELS = ("loss", "label_accuracy", "macro_f1", "micro_f1")  # several an image
OF_NUMBERS = ("loss", "mae")

# What a best checkpoint can be selected by, and what can be watched, in some task; metrics on request come last.
ON_REQUEST = tuple(f"valid_{name}" for name in METRICS)
VALID_COLUMNS = tuple(f"valid_{name}" for name in dict.fromkeys((*OF_CLASSES, *OF_LABELS, *OF_NUMBERS, *METRICS)))
COLUMNS = ("train_loss", "train_accuracy", "train_label_accuracy", "train_mae", *VALID_COLUMNS)
TIMINGS = ("seconds", "images_per_second")  # columns that no two runs share
HIGHER_IS_BETTER = ("accuracy", "label_accuracy", "micro_f1", *METRICS)


def f1(right: Any, wrong: Any, missed: Any) -> Any:
    """F1 of how often something was rightly told, wrongly told and missed; 0 where there was nothing of it.

    Arrays of counts, or tensors of them as floating-point numbers.
    """
    return 2 * right / (2 * right + wrong + missed).clip(min=1)


def is_higher_better(column: str) -> bool:
    """Whether a column such as `valid_accuracy` is better the higher it is; others are better the lower they are."""
    return column.partition("_")[2] in HIGHER_IS_BETTER


def find_missing(names: Sequence[str]) -> list[str]:
    """A sentence where metrics are asked for that nothing here can compute."""
    if not names:
        return []
    try:
        import sklearn.metrics  # noqa: F401
    except ImportError:
        return [f'{", ".join(names)}: scikit-learn is not installed; get it with: pip install "cnnlab[metrics]"']
    return []


def measure(names: Sequence[str], probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of probabilities (N, classes) for labels (N,), by `names`.

    Raises ConfigError where scikit-learn is not installed, DataError for the AUC of images of one class.
    """
    if not names:
        return {}
    missing = find_missing(names)
    if missing:
        raise ConfigError(missing)
    from sklearn import metrics

    num_classes, predicted = probabilities.shape[1], probabilities.argmax(1)

    def measure_auc() -> float:
        there = np.unique(labels)
        if len(there) < 2:
            raise DataError("auc: all of these images are of one class; expected two or more, or another metric")
        if num_classes == 2:
            return metrics.roc_auc_score(labels, probabilities[:, 1])
        return float(np.mean([metrics.roc_auc_score(labels == label, probabilities[:, label]) for label in there]))

    def measure_macro_f1() -> float:
        right = np.bincount(labels[predicted == labels], minlength=num_classes)
        told, there = np.bincount(predicted, minlength=num_classes), np.bincount(labels, minlength=num_classes)
        return f1(right, told - right, there - right).mean()

    def measure_balanced_accuracy() -> float:
        return metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro")

    compute = {
        "auc": measure_auc,
        "macro_f1": measure_macro_f1,
        "balanced_accuracy": measure_balanced_accuracy,
        "kappa": lambda: measure_kappa(labels, predicted, num_classes, None),
        "quadratic_kappa": lambda: measure_kappa(labels, predicted, num_classes, "quadratic"),
        "top5_accuracy": lambda: metrics.top_k_accuracy_score(
            labels, probabilities, k=min(5, num_classes - 1), labels=np.arange(num_classes)
        ),
    }
    return {name: float(compute[name]()) for name in names}


def measure_kappa(labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: str | None) -> float:
    """Cohen's kappa; 1 where all images are of one class and predicted so, for which it is not defined."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([labels, predicted]))) == 1:
        return 1.0
    return cohen_kappa_score(labels, predicted, labels=np.arange(num_classes), weights=weights)
