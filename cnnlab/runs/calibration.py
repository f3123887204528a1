"""How far a network's probabilities can be believed, and the temperature that corrects them.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599. Logits are divided
by one number, fitted on validation images: which class is the likeliest stays, how likely it is changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cnnlab.errors import ConfigError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.trained import Trained, load_trained
from cnnlab.tasks import Classification, surprise

NUM_BINS = 15  # the paper's
MAX_TEMPERATURE = 20.0  # and 1 / this: where every validation image is right, the best temperature would be 0


@dataclass(frozen=True)
class Bin:
    """The images whose most probable class has a probability in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float  # the mean of these probabilities
    accuracy: float  # the share of these images that are right


@dataclass(frozen=True)
class Calibration:
    """How well probabilities agree with what happens."""

    images: int
    log_loss: float
    ece: float  # expected calibration error
    bins: tuple[Bin, ...]


def measure_calibration(task: Classification, logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Calibration:
    """Of float64 logits (N, outputs), divided by a temperature, and labels int64 (N,)."""
    scaled = logits / temperature
    confidences = task.to_scores(scaled).amax(1)
    bins = bin_confidences(confidences, task.predict(logits) == labels)
    log_loss = task.add_up_log_loss(scaled, labels).item() / len(labels)
    return Calibration(len(labels), log_loss, expected_calibration_error(bins), tuple(bins))


def bin_confidences(confidences: Tensor, is_right: Tensor, num_bins: int = NUM_BINS) -> list[Bin]:
    """The bins of equal width that have images in them."""
    numbers = (confidences * num_bins).ceil().long().clamp(1, num_bins) - 1  # (m / M, (m + 1) / M] is bin m
    found = []
    for number in numbers.unique().tolist():
        inside = numbers == number
        means = confidences[inside].mean().item(), is_right[inside].double().mean().item()
        found.append(Bin(number / num_bins, (number + 1) / num_bins, int(inside.sum()), *means))
    return found


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean over images of how far their bin's accuracy is from its confidence."""
    total = sum(each.images for each in bins)
    return sum(each.images / total * abs(each.accuracy - each.confidence) for each in bins)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the least log loss, by LBFGS over its logarithm."""
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], max_iter=100, line_search_fn="strong_wolfe")

    def learn() -> Tensor:
        optimizer.zero_grad()
        loss = surprise(logits.double() / logarithm.exp(), labels).mean()
        loss.backward()
        return loss

    optimizer.step(learn)
    limit = math.log(MAX_TEMPERATURE)
    return math.exp(min(limit, max(-limit, logarithm.item())))


def calibrate(path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Fit the temperature of a run on its validation images; calibration.json, which is returned as well.

    It tells ECE and log loss before and after of the validation images and, where there are any, of the test images,
    which nothing is fitted to. Raises ConfigError for a run without classes or without validation images.
    """
    run = RunDirectory.open(path)
    trained = load_trained(run, overrides=overrides)
    task = trained.facts.task
    if not isinstance(task, Classification):
        raise ConfigError(f"{run}: is of a {task} problem; expected a run whose images have one class each")
    parts = trained.read_parts()
    if "valid" not in parts:
        raise ConfigError(
            f"{run}: has no validation images to fit a temperature on; expected a run with some (split.valid=0.1)"
        )
    outputs = {part: trained.compute_outputs(parts[part]) for part in ("valid", "test") if part in parts}
    temperature = fit_temperature(outputs["valid"], parts["valid"].labels.cpu())
    found: dict[str, Any] = {"temperature": temperature, "weights": trained.identify()}
    for part, logits in outputs.items():
        before, after = (measure_calibration(task, logits, parts[part].labels.cpu(), t) for t in (1.0, temperature))
        found[part] = {"before": asdict(before), "after": asdict(after)}
    run.write_json(run.calibration, found)
    return found


def read_temperature(trained: Trained) -> float:
    """What `calibrate` found for these weights. Raises ConfigError where it did not run, or for other weights."""
    run = trained.run
    found = run.read_json(run.calibration)
    if found.get("weights") != trained.identify():
        reason = "was made for other weights" if found else "is not there"
        raise ConfigError(f"{run.calibration}: {reason}; make it with: cnnlab calibrate {run}")
    temperature = found.get("temperature")
    if not isinstance(temperature, float) or not 0 < temperature < math.inf:
        raise ConfigError(f"{run.calibration}: temperature is {temperature!r}; make it anew: cnnlab calibrate {run}")
    return temperature


def print_calibration(found: dict[str, Any]) -> None:
    print(f"temperature {found['temperature']:.4f}, fitted on {found['valid']['before']['images']:,} validation images")
    print(f"{'':5}  {'images':>7}  {'log loss':>8}  {'after':>7}  {'ECE':>7}  {'after':>7}")
    for part in ("valid", "test"):
        if part in found:
            before, after = found[part]["before"], found[part]["after"]
            losses = f"{before['log_loss']:8.4f}  {after['log_loss']:7.4f}"
            print(f"{part:5}  {before['images']:7,}  {losses}  {before['ece']:7.4f}  {after['ece']:7.4f}")
    if "test" in found and found["test"]["after"]["log_loss"] > found["test"]["before"]["log_loss"]:
        print("of the test images the log loss gets worse: the validation images may be too few to fit to")
