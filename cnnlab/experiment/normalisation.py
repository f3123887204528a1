"""Trained weights bring the normalisation that they were trained with; what differs from it is said."""

from __future__ import annotations

from dataclasses import replace

from cnnlab.config import Config
from cnnlab.data import Facts
from cnnlab.data.normalise import NAMED
from cnnlab.distributed import say
from cnnlab.errors import ConfigError
from cnnlab.models.expected import Expected, find_expected

INTERPOLATION = "bilinear"  # of cnnlab, see `data/resize.py`
SAME = 0.01  # of means and deviations


def settle_normalisation(config: Config, facts: Facts) -> Config:
    """The configuration with the numbers of `model.weights` in the place of normalize=model, or of none.

    As numbers they stay with a run when the weights that told them are gone. Raises ConfigError where normalize=model
    is given and no weights tell any.
    """
    shared, source = config.dataset.shared, config.model.shared.weights
    expected = None
    if source is not None:
        expected = find_expected(config.model.name, config.model.arguments.get("arch"), source)
    if shared.normalize == "model" and expected is None:
        raise ConfigError(
            f"dataset.normalize: model was given, and model.weights={source} has no mean and deviation; expected "
            "published weights, a run, or another normalisation, such as {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
        )
    if expected is None:
        if source is not None and shared.normalize is None:
            say(
                f"model.weights: {source} has no normalisation; that of the dataset is used. If the weights were "
                "trained with another, give it as dataset.normalize={mean: [...], std: [...]}"
            )
        return config
    say_differences(config, facts, expected)
    fits = len(expected.mean) in (1, facts.channels)
    if shared.normalize == "model" or (shared.normalize is None and fits):
        given = {"mean": list(expected.mean), "std": list(expected.std)}
        return replace(config, dataset=replace(config.dataset, shared=replace(shared, normalize=given)))
    return config


def say_differences(config: Config, facts: Facts, expected: Expected) -> None:
    """On stderr what a network with these weights will see otherwise than the weights were trained on."""
    given = config.dataset.shared.normalize
    differences = []
    named = NAMED.get(given) if isinstance(given, str) else (given["mean"], given["std"]) if given else None
    wanted = [*expected.mean, *expected.std]
    if given == "auto" or (
        named and any(abs(a - b) > SAME for a, b in zip([*named[0], *named[1]], wanted, strict=False))
    ):
        differences.append(f"dataset.normalize={given} (theirs: mean {expected.mean}, std {expected.std})")
    if facts.image_size != expected.image_size:
        differences.append(f"images of {facts.image_size} pixels a side (theirs: {expected.image_size})")
    if expected.interpolation != INTERPOLATION:
        differences.append(f"{INTERPOLATION} interpolation (theirs: {expected.interpolation})")
    if differences:
        say(f"model.weights: {config.model.shared.weights} was trained otherwise: {'; '.join(differences)}")
