"""The dataset that a configuration names, and its images as batches of training, validation and test."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cnnlab.config import Config
from cnnlab.data import Dataset, Facts, ImageSet
from cnnlab.data.batches import Augment, Batches
from cnnlab.data.groups import find_groups, join_twins
from cnnlab.data.label_map import map_labels
from cnnlab.data.normalise import NAMED, Normalise, measure_pixels
from cnnlab.data.parts import Part, divide, join_valid
from cnnlab.errors import ConfigError, DataError
from cnnlab.tasks import TASKS


def build_dataset(config: Config) -> Dataset:
    """The dataset with the task that the configuration chooses for it. Raises ConfigError if it cannot have it.

    Raises DataError for a dataset that is not there, or that has one class only.
    """
    dataset: Dataset = config.dataset.build()
    given = config.dataset.shared.label_map
    if given:  # names that are numbers are such in YAML
        mapping = {str(old): None if new is None else str(new) for old, new in given.items()}
        dataset = map_labels(dataset, mapping)
    if dataset.facts.task.has_classes and len(dataset.facts.classes) < 2:
        raise DataError(
            f"dataset {config.dataset.name}: has {len(dataset.facts.classes)} class; expected two or more, which a "
            "network can tell apart"
        )
    if config.division.joins_valid:
        dataset = join_valid(dataset)
    task, facts = config.dataset.shared.task, dataset.facts
    if task is None or task == facts.task.name:
        return dataset
    if not facts.task.has_classes or len(facts.classes) != 2:
        raise ConfigError(
            f"dataset.task: {task} was given; expected null: {config.dataset.name} is {facts.task} with "
            f"{len(facts.classes)} outputs, and two classes are needed for a choice"
        )
    return replace(dataset, facts=replace(facts, task=TASKS[task]))


def read_parts(config: Config, dataset: Dataset, device: torch.device) -> dict[str, Batches]:
    """The parts there are, of "train", "valid" and "test", as batches on the device. Raises DataError."""
    read = {part: dataset.read(part) for part in dataset.parts}
    for part, images in read.items():
        if len(images) == 0:
            raise DataError(f"dataset {config.dataset.name}: its part '{part}' holds no images")
    labels = {part: images.labels for part, images in read.items()}
    parts = divide(config.division, labels, dataset.facts.classes, group_images(config, read["train"]))
    normalise = find_normalisation(config, dataset.facts, read["train"], parts["train"])
    augment = choose_augment(config)
    if (augment.crop or augment.augmentations) and not read["train"].holds_pixels:
        names = ", ".join(component.name for component in config.augment if component not in config.augment.mixes)
        raise ConfigError(f"augment: {names} change pixels, and dataset {config.dataset.name} has other numbers")
    resident = {part: images.to(device) for part, images in read.items()}
    batches = {
        name: Batches(resident[part.source], part.indices, config.engine.eval_batch_size, normalise)
        for name, part in parts.items()
    }
    batches["train"] = replace(
        batches["train"],
        batch_size=config.batch_size,
        seed=config.seed,
        sampling=config.sampling,
        augment=augment,
    )
    return batches


def group_images(config: Config, train: ImageSet) -> Tensor | None:
    """The group of each training image, int64 (N,), where groups or near-twins stay together. Raises DataError."""
    groups = find_groups(config.split.groups, train.files)
    return join_twins(groups, train) if config.split.keep_twins else groups


def find_normalisation(config: Config, facts: Facts, images: ImageSet, train: Part) -> Normalise:
    """By the mean and deviation that are given, those of the images to train on, or the dataset's."""
    given = config.dataset.shared.normalize
    if isinstance(given, str) and given in NAMED:
        return Normalise(*NAMED[given])
    if isinstance(given, dict):
        return Normalise(tuple(given["mean"]), tuple(given["std"]))
    own = facts.mean is None or facts.std is None or given == "auto"
    if own and images.holds_pixels:
        return Normalise(*measure_pixels(images, train.indices))
    return Normalise(facts.mean, facts.std)


def choose_augment(config: Config) -> Augment:
    """What happens to training images; nothing to those that a network is to learn by heart."""
    if config.engine.overfit is not None:
        return Augment()
    given = config.augment
    return Augment(
        given.crop.bind() if given.crop else None,
        {component.name: component.bind() for component in given.augmentations},
        {component.name: component.bind() for component in given.mixes},
    )
