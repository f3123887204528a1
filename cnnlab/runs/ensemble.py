"""What makes one prediction of many, fitted to images that none of the networks trained on: weights, thresholds.

The mean of probabilities is a mixture; the weights with the least log loss are found by expectation-maximisation
(Dempster, Laird, Rubin 1977), which gets no worse from step to step, and the log loss is convex in them. What a fit
gains is measured by fitting to one half of the images and judging by the other, both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnlab.data import Facts
from cnnlab.errors import ConfigError
from cnnlab.metrics import f1
from cnnlab.runs.submission import EVEN
from cnnlab.tasks import LEAST_PROBABILITY

Averaging = Literal["probabilities", "logits"]  # what the mean over networks is of

NUM_STEPS = 1000
CONVERGED = 1e-9  # change of every weight in a step
FAR = 700.0  # no logit is larger, whose probability float64 cannot tell from 1


@dataclass(frozen=True)
class HeldOut:
    """What a run, or each fold of a cross-validation, says of images that it did not train on."""

    names: list[str]
    scores: np.ndarray  # float64 (N, scores)
    labels: np.ndarray  # as in an ImageSet


# --- Weights ----------------------------------------------------------------------------------------------


def choose_weights(paths: Sequence[str], given: str, held_out: Sequence[HeldOut]) -> np.ndarray:
    """Those that are given, or fitted ones, with what they gain, which is printed. Raises ConfigError."""
    if given != "fit":
        return read_numbers("--weights", given, f"{len(paths)} numbers with commas, one for each run", [len(paths)])
    require_same_images(paths, held_out)
    labels = held_out[0].labels
    of_images = np.stack([pick_right(run.scores, labels) for run in held_out])  # (runs, N, 1 or labels)
    right = of_images.reshape(len(of_images), -1)
    weights, equal = fit_weights(right), np.full(len(right), 1 / len(right))
    gained = cross_fit(
        len(labels),
        lambda half: fit_weights(of_images[:, half].reshape(len(right), -1)),
        lambda found, half: measure_log_loss(of_images[:, half].reshape(len(right), -1), found),
    )
    shown = "  ".join(f"{weight:.4f} {path}" for weight, path in zip(weights, paths, strict=True))
    print(f"weights, fitted on {len(labels):,} images that were held out: {shown}")
    alone = min(measure_log_loss(right[[number]], np.ones(1)) for number in range(len(right)))
    print(
        f"log loss there {measure_log_loss(right, equal):.4f} with equal weights, {alone:.4f} of the best run alone, "
        f"{measure_log_loss(right, weights):.4f} with these; {gained:.4f} where each half is judged by the other's"
    )
    return weights


def require_mixture(paths: Sequence[str], facts: Facts, average: str) -> None:
    """Raises ConfigError unless these runs have a mixture whose weights can be fitted."""
    if not facts.task.has_probabilities:
        raise ConfigError(f"--weights fit: is for probabilities, and {facts.task} has none; expected numbers")
    if average != "probabilities":
        raise ConfigError(f"--weights fit: is for the mean of probabilities, not of {average}; expected numbers")
    if len(paths) == 1:
        raise ConfigError("--weights fit: one run was given; expected two or more")


def pick_right(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability that is given to the class of each image (N, 1), or to what is so of each label (N, labels)."""
    if labels.ndim == 1:
        return scores[np.arange(len(labels)), labels][:, None]
    return np.where(labels == 1, scores, 1 - scores)


def fit_weights(right: np.ndarray) -> np.ndarray:
    """Weights (runs,), together 1, with the least log loss of the mixture.

    `right` (runs, N) is the probability that each run gives to each image's own class, or to what each label is.
    """
    right = right.clip(min=LEAST_PROBABILITY)
    weights = np.full(len(right), 1 / len(right))
    for _ in range(NUM_STEPS):
        shares = weights[:, None] * right
        new = (shares / shares.sum(0)).mean(1)
        if abs(new - weights).max() < CONVERGED:
            return new
        weights = new
    return weights


def measure_log_loss(right: np.ndarray, weights: np.ndarray) -> float:
    """Of the mixture of runs (runs, N); see `fit_weights`."""
    return float(-np.log((weights @ right).clip(min=LEAST_PROBABILITY)).mean())


# --- Thresholds -------------------------------------------------------------------------------------------


def choose_thresholds(
    paths: Sequence[str],
    given: str,
    facts: Facts,
    held_out: Sequence[HeldOut],
    weights: Sequence[float],
    average: Averaging,
) -> tuple[float, ...]:
    """One for the second of two classes, or for each of several labels: given or fitted, which is printed.

    Of two classes the fit has the highest accuracy, of labels the highest F1. Raises ConfigError.
    """
    num_labels = require_cuts(given, facts)
    if given != "fit":
        expected = "a number between 0 and 1" + (f", or {num_labels} with commas" if num_labels > 1 else "")
        numbers = read_numbers("--threshold", given, expected, [1, num_labels])
        return tuple(np.broadcast_to(numbers, num_labels).tolist())
    require_same_images(paths, held_out)
    scores = mix_scores(np.stack([run.scores for run in held_out]), np.array(weights) / sum(weights), facts, average)
    scores = scores[:, -num_labels:]
    labels = held_out[0].labels.reshape(len(scores), num_labels)
    name, measure = ("accuracy", measure_accuracy) if facts.task.has_classes else ("macro F1", measure_f1)

    def judge(thresholds: np.ndarray, chosen: np.ndarray) -> float:
        has, is_so = scores[chosen] >= thresholds, labels[chosen] == 1
        counts = np.stack([(has & is_so).sum(0), (has & ~is_so).sum(0), (~has & is_so).sum(0), (~has & ~is_so).sum(0)])
        return float(measure(counts).mean())

    everyone = np.ones(len(scores), dtype=bool)
    thresholds = fit_thresholds(scores, labels, measure)
    gained = cross_fit(len(labels), lambda half: fit_thresholds(scores[half], labels[half], measure), judge)
    named = facts.classes[-num_labels:]
    shown = "  ".join(f"{value:.4f} {label}" for value, label in zip(thresholds, named, strict=True))
    print(f"thresholds, fitted on {len(labels):,} images that were held out: {shown}")
    print(
        f"{name} there {judge(np.full(num_labels, EVEN), everyone):.4f} with a half, {judge(thresholds, everyone):.4f} "
        f"with these; {gained:.4f} where each half is judged by the other's"
    )
    return tuple(thresholds.tolist())


def mix_scores(scores: np.ndarray, shares: np.ndarray, facts: Facts, average: Averaging) -> np.ndarray:
    """The probabilities (N, scores) of several runs together, as they predict: of `scores` (runs, N, scores)."""
    if average == "probabilities":
        return np.einsum("r,rns->ns", shares, scores)
    with np.errstate(divide="ignore"):  # of a probability of 0
        logarithms = np.log(scores) - (0 if facts.task.has_classes else np.log1p(-scores))
    mean = np.einsum("r,rns->ns", shares, logarithms.clip(-FAR, FAR))
    if not facts.task.has_classes:
        return 1 / (1 + np.exp(-mean))
    unscaled = np.exp(mean - mean.max(1, keepdims=True))
    return unscaled / unscaled.sum(1, keepdims=True)


def require_cuts(given: str, facts: Facts) -> int:
    """How many thresholds there are. Raises ConfigError where there are none."""
    num_labels = len(facts.classes) - 1 if facts.task.has_classes else len(facts.classes)
    if not facts.task.has_probabilities or (facts.task.has_classes and num_labels != 1):
        is_of = f"there are {len(facts.classes)} classes" if facts.task.has_classes else f"this is {facts.task}"
        raise ConfigError(
            f"--threshold {given}: is for two classes, or several labels an image, and {is_of}; expected none"
        )
    return num_labels


def fit_thresholds(scores: np.ndarray, labels: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """For each label the threshold (labels,) with the highest `measure`; half-way between two scores.

    `scores` and `labels` are (N, labels), labels 0 or 1. `measure` is handed counts (4, cuts): right and wrong ones
    above a cut, wrong and right ones below it.
    """
    found = []
    for column, label in zip(scores.T, labels.T, strict=True):
        order = np.argsort(-column, kind="stable")
        sorted_scores, right = column[order], label[order]
        above = np.concatenate([[0], right.cumsum()])  # of the k highest, how many are right
        count = np.arange(len(right) + 1)
        counts = np.stack([above, count - above, above[-1] - above, len(right) - count - above[-1] + above])
        edges = np.concatenate([[1.0], sorted_scores, [0.0]])
        is_cut = edges[:-1] > edges[1:]  # not between equal scores
        is_cut[[0, -1]] |= ~is_cut.any()
        cuts = (edges[:-1] + edges[1:]) / 2
        values = np.where(is_cut, measure(counts), -np.inf)
        best = np.flatnonzero(values == values.max())
        found.append(cuts[best[abs(cuts[best] - EVEN).argmin()]])  # of equals the one nearest to a half
    return np.array(found)


def measure_f1(counts: np.ndarray) -> np.ndarray:
    """F1 (cuts,) of what is above each cut; see `fit_thresholds`. Zero where nothing is right."""
    return f1(*counts[:3])


def measure_accuracy(counts: np.ndarray) -> np.ndarray:
    """The share of images (cuts,) on their side of each cut; see `fit_thresholds`."""
    return (counts[0] + counts[3]) / counts.sum(0)


# --- Both ---------------------------------------------------------------------------------------------------


def require_same_images(paths: Sequence[str], held_out: Sequence[HeldOut]) -> None:
    """Raises ConfigError unless all runs held the same images out."""
    first = held_out[0]
    for path, other in zip(paths[1:], held_out[1:], strict=True):
        if other.names != first.names or not np.array_equal(other.labels, first.labels):
            raise ConfigError(
                f"fit: {path} held other images out than {paths[0]} did; expected runs of one dataset and split, or "
                "cross-validations of it"
            )


def cross_fit(num_images: int, fit: Callable[[np.ndarray], np.ndarray], judge: Callable) -> float:
    """The mean over two halves, even and odd images, of what is judged there of a fit to the other half.

    Raises ConfigError for fewer than two images.
    """
    if num_images < 2:
        raise ConfigError(f"fit: {num_images} image was held out; expected two or more")
    halves = np.arange(num_images) % 2 == 0, np.arange(num_images) % 2 == 1
    return float(np.mean([judge(fit(ours), theirs) for ours, theirs in (halves, halves[::-1])]))


def read_numbers(option: str, text: str, expected: str, counts: Sequence[int]) -> np.ndarray:
    """ "0.7,0.3" as numbers, of which there have to be as many as one of `counts`. Raises ConfigError."""
    try:
        numbers = np.array([float(each) for each in text.split(",")])
    except ValueError:
        numbers = np.array([])
    if len(numbers) not in counts or not np.isfinite(numbers).all() or (numbers < 0).any() or numbers.sum() == 0:
        raise ConfigError(f"{option}: {text!r} was given; expected {expected}, or fit")
    return numbers
