"""Other names for the classes of a dataset, several made one, and classes to leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from cnnlab.data.dataset import Dataset, ImageSet, Pictures
from cnnlab.errors import ConfigError
from cnnlab.signature import suggest
from cnnlab.tasks import MULTICLASS


def map_labels(dataset: Dataset, mapping: Mapping[str, str | None]) -> Dataset:
    """The dataset with each class called as the mapping says, without images of a class that it maps to None.

    A class that the mapping does not name stays as it is; the new classes come in the order of the old ones. Raises
    ConfigError for names of no class, and for a dataset whose images do not have one class each.
    """
    old = dataset.facts.classes
    if dataset.facts.task is not MULTICLASS:
        raise ConfigError(
            f"dataset.label_map: {dict(mapping)} was given; expected {{}}: {dataset.facts.task} has no classes to map"
        )
    problems = [
        f"dataset.label_map.{name}: no class '{name}'; {suggest(name, old)}" for name in mapping if name not in old
    ]
    if problems:
        raise ConfigError(problems)
    named = [mapping.get(name, name) for name in old]
    classes = tuple(dict.fromkeys(name for name in named if name is not None))
    numbers = [-1 if name is None else classes.index(name) for name in named]

    def map_pictures(pictures: Pictures) -> Pictures:
        if pictures.labels is None:
            return pictures
        new = torch.tensor(numbers)[pictures.label_tensor()].tolist()
        kept = [index for index, label in enumerate(new) if label >= 0]
        return replace(pictures.select(kept), labels=tuple(new[index] for index in kept))

    def read(part: str) -> ImageSet:
        images = dataset.read(part)
        labels = torch.tensor(numbers)[images.labels]
        kept = (labels >= 0).nonzero().flatten()
        files = None if images.files is None else map_pictures(images.files)
        store = images.store if len(kept) == len(labels) else images.store.select(kept)
        return ImageSet(store, labels[kept], files)

    files = {part: map_pictures(pictures) for part, pictures in dataset.files.items()}
    return replace(dataset, facts=replace(dataset.facts, classes=classes), read=read, files=files)
