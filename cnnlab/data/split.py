"""Which images are for training, which choose the best checkpoint, which are looked at once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cnnlab.data.registry import Dataset, ImageSet
from cnnlab.errors import DataError, tell
from cnnlab.runtime import derive_seed


def split_off(
    labels: Tensor, fraction: float, seed: int, purpose: str, classes: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """Indices (kept, taken), each in ascending order, `taken` being `fraction` of every class.

    Stratified where labels are classes: a class of n images gives n·fraction, rounded so that the total
    is right as well (the largest remainders are rounded up), and every class keeps at least one image.
    The same labels, seed and purpose always give the same split.

    Raises DataError for a class with a single image, which cannot be on both sides, by its name among `classes`.
    """
    if fraction == 0:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.long)
    labels = _as_classes(labels)
    _refuse_lonely(labels, classes, f"split.{purpose}={fraction:g}", f"split.{purpose}=0")
    counts = torch.bincount(labels)
    quota = counts * fraction
    take = quota.floor()
    num_missing = round(float(quota.sum())) - int(take.sum())
    take[(quota - take).argsort(descending=True, stable=True)[:num_missing]] += 1
    take = take.minimum((counts - 1).clamp(min=0)).long()

    generator = torch.Generator().manual_seed(derive_seed(seed, "split", purpose))
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label, num_taken in enumerate(take.tolist()):
        members = (labels == label).nonzero().flatten()
        taken[members[torch.randperm(len(members), generator=generator)[:num_taken]]] = True
    return (~taken).nonzero().flatten(), taken.nonzero().flatten()


def assign_folds(labels: Tensor, num_folds: int, seed: int, classes: Sequence[str] = ()) -> Tensor:
    """The fold of each image, int64 (N,): for each class, and in all, folds differ by one image at most.

    The same labels, number of folds and seed always give the same folds. Numbers are all of one class.

    Raises DataError for a class with a single image, by its name among `classes`, or fewer images than folds.
    """
    if len(labels) < num_folds:
        raise DataError(f"folds={num_folds}: there are {len(labels)} images to train on; expected as many as folds")
    labels = _as_classes(labels)
    _refuse_lonely(labels, classes, f"folds={num_folds}", "folds=null")
    generator = torch.Generator().manual_seed(derive_seed(seed, "folds", num_folds))
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    folds = torch.empty(len(labels), dtype=torch.long)
    folds[by_class] = torch.arange(len(labels)) % num_folds  # dealt out like cards, class after class
    return folds


def join_valid(dataset: Dataset) -> Dataset:
    """The dataset with its own validation images, if it has them, behind its training images."""
    if "valid" not in dataset.parts:
        return dataset

    def read(part: str) -> ImageSet:
        images = dataset.read(part)
        return images.join(dataset.read("valid")) if part == "train" else images

    files = dict(dataset.files)
    if files:
        files["train"] = files["train"].join(files.pop("valid"))
    parts = tuple(part for part in dataset.parts if part != "valid")
    return replace(dataset, parts=parts, read=read, files=files)


def _as_classes(labels: Tensor) -> Tensor:
    """Labels that are numbers are all of one kind."""
    return torch.zeros(len(labels), dtype=torch.long) if labels.is_floating_point() else labels


def _refuse_lonely(labels: Tensor, classes: Sequence[str], given: str, remedy: str) -> None:
    """Raises DataError naming the classes with a single image."""
    single = (torch.bincount(labels) == 1).nonzero().flatten().tolist()
    lonely = [classes[label] if classes else str(label) for label in single]
    if lonely:
        raise DataError(
            f"{tell(f'{given}: classes with a single image', lonely)}; it cannot be both trained on and tested on: "
            f"add images or set {remedy}"
        )
