"""Which images are for training, which choose the best checkpoint, which are kept for one test at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from cnnlab.data.dataset import Dataset, ImageSet
from cnnlab.errors import DataError, format_list
from cnnlab.seeds import derive_seed


@dataclass(frozen=True)
class Division:
    """How a dataset becomes "train", "valid" and "test" where it does not come with these parts.

    The shares are of the training images. Of `num_folds` folds one may be held out to validate on; images of the
    dataset's own validation part then join the training images, as they do where `fit_on` is "train_valid". With
    `num_kept` no more than so many images are trained, and validated, on.
    """

    valid: float
    test: float
    seed: int
    num_folds: int | None = None
    fold: int | None = None
    fit_on: Literal["train", "train_valid"] = "train"
    num_kept: int | None = None

    @property
    def joins_valid(self) -> bool:
        """Whether the validation images join the training images: all of them, or before folds are made."""
        return self.fit_on == "train_valid" or self.num_folds is not None

    def has_valid(self, dataset: Dataset) -> bool:
        """Whether there are images that choose the best checkpoint."""
        if self.num_kept is not None or self.num_folds is not None or "valid" in dataset.parts:
            return True
        return self.valid > 0 and not self.joins_valid


class Part(NamedTuple):
    """Some images of a part that the dataset itself has."""

    source: str
    indices: Tensor  # int64 (N,)


def divide(
    division: Division, labels: Mapping[str, Tensor], classes: Sequence[str], groups: Tensor | None = None
) -> dict[str, Part]:
    """What makes up each part, of "train", "valid" and "test". Splitting copies no image.

    `labels` are those of the dataset's own parts; images of the training part that have a number of `groups` (N,) in
    common stay together. Raises DataError where they cannot be split so.
    """
    parts = {part: Part(part, torch.arange(len(of_part))) for part, of_part in labels.items()}
    pool = parts["train"].indices
    shares = {"test": division.test, "valid": 0.0 if division.joins_valid else division.valid}
    for part, fraction in shares.items():
        if part not in parts and fraction > 0:
            of_pool = None if groups is None else groups[pool]
            kept, taken = split_off(labels["train"][pool], fraction, division.seed, part, classes, of_pool)
            if len(taken) == 0 or len(kept) == 0:
                raise DataError(
                    f"split.{part}={fraction:g} of {len(pool)} images leaves {len(kept)} to train on and "
                    f"{len(taken)} for '{part}'; expected at least one each: change the share or set it to 0"
                )
            parts[part], pool = Part("train", pool[taken]), pool[kept]
    if division.num_folds is not None and division.fold is not None:
        of_pool = None if groups is None else groups[pool]
        folds = assign_folds(labels["train"][pool], division.num_folds, division.seed, classes, of_pool)
        parts["valid"], pool = Part("train", pool[folds == division.fold]), pool[folds != division.fold]
    if division.num_kept is not None:
        few = torch.randperm(len(pool), generator=torch.Generator().manual_seed(division.seed))
        pool = pool[few[: division.num_kept]]
        parts = {"valid": Part("train", pool)}
    parts["train"] = Part("train", pool)
    return parts


def split_off(
    labels: Tensor,
    fraction: float,
    seed: int,
    purpose: str,
    classes: Sequence[str] = (),
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices (kept, taken), each in ascending order, `taken` being `fraction` of every class.

    Stratified where labels are classes: a class of n images gives n·fraction, rounded so that the total
    is right as well (the largest remainders are rounded up), and every class keeps at least one image.
    The same labels, seed and purpose always give the same split. With `groups` (N,) each is on one side, and shares
    are as near as that allows.

    Raises DataError for a class with a single image, which cannot be on both sides, by its name among `classes`.
    """
    if fraction == 0:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.long)
    if groups is None and are_label_sets(labels):
        groups = torch.arange(len(labels))
    if groups is not None:
        members = list_members(labels)
        shares = [1 - fraction, fraction]
        is_taken = share_out_groups(members, groups, shares, derive_seed(seed, "split", purpose)) == 1
        for of_class in members.T.bool():  # a class that nothing could be learned of comes back, one group of it
            if of_class.any() and is_taken[of_class].all():
                is_taken[groups == groups[of_class].mode().values] = False
        return (~is_taken).nonzero().flatten(), is_taken.nonzero().flatten()
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


def assign_folds(
    labels: Tensor, num_folds: int, seed: int, classes: Sequence[str] = (), groups: Tensor | None = None
) -> Tensor:
    """The fold of each image, int64 (N,): for each class, and in all, folds differ by one image at most.

    The same labels, number of folds and seed always give the same folds. Numbers are all of one class. With `groups`
    (N,) each is in one fold, and folds are as even as that allows.

    Raises DataError for a class with a single image or group, by its name among `classes`, or fewer images or groups
    than folds.
    """
    if len(labels) < num_folds:
        raise DataError(f"folds={num_folds}: there are {len(labels)} images to train on; expected as many as folds")
    if groups is None and are_label_sets(labels):
        groups = torch.arange(len(labels))
    if groups is not None:
        members = list_members(labels)
        _refuse_too_few_groups(members, groups, num_folds, classes)
        return share_out_groups(members, groups, [1 / num_folds] * num_folds, derive_seed(seed, "folds", num_folds))
    labels = _as_classes(labels)
    _refuse_lonely(labels, classes, f"folds={num_folds}", "folds=null")
    generator = torch.Generator().manual_seed(derive_seed(seed, "folds", num_folds))
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    folds = torch.empty(len(labels), dtype=torch.long)
    folds[by_class] = torch.arange(len(labels)) % num_folds  # dealt out like cards, class after class
    return folds


def are_label_sets(labels: Tensor) -> bool:
    """Whether each image has any number of labels, 0 or 1 for each, (N, labels)."""
    return labels.is_floating_point() and bool(((labels == 0) | (labels == 1)).all())


def list_members(labels: Tensor) -> Tensor:
    """0 or 1 for each class that an image may be of, float64 (N, classes); all are of the last one."""
    everyone = torch.ones(len(labels), 1, dtype=torch.float64)
    if are_label_sets(labels):
        return torch.cat([labels.double(), everyone], 1)
    return everyone if labels.is_floating_point() else torch.cat([one_hot(labels).double(), everyone], 1)


def share_out_groups(members: Tensor, groups: Tensor, shares: Sequence[float], seed: int) -> Tensor:
    """Which of the parts with these `shares` (together 1) each image belongs to, int64 (N,): each group to one.

    `members`: see `list_members`. The largest groups come first, equal ones by chance. Each goes where it brings the
    parts nearest to their share of every class: to where Σ (lacking / all of the class)² / share falls the most, much
    as in scikit-learn's StratifiedGroupKFold.
    """
    num_groups, num_classes = int(groups.max()) + 1, members.shape[1]
    counts = torch.zeros(num_groups, num_classes, dtype=torch.float64).index_add_(0, groups, members)
    counts = counts / counts.sum(0).clamp(min=1)  # of all images of the class
    shuffled = torch.randperm(num_groups, generator=torch.Generator().manual_seed(seed))
    sizes = torch.bincount(groups, minlength=num_groups)[shuffled]
    wanted = torch.tensor(shares, dtype=torch.float64)
    lacking = wanted.unsqueeze(1).repeat(1, num_classes)
    part = torch.zeros(num_groups, dtype=torch.long)
    for group in shuffled[sizes.argsort(descending=True, stable=True)].tolist():
        own = counts[group]
        part[group] = ((2 * lacking @ own - own @ own) / wanted).argmax()
        lacking[part[group]] -= counts[group]
    return part[groups]


def join_valid(dataset: Dataset) -> Dataset:
    """The dataset with its own validation images, if it has them, after its training images."""
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


def _refuse_too_few_groups(members: Tensor, groups: Tensor, num_folds: int, classes: Sequence[str]) -> None:
    """Raises DataError for fewer groups than folds, and naming the classes that lie in a single group."""
    num_groups = len(groups.unique())
    if num_groups < num_folds:
        raise DataError(f"folds={num_folds}: there are {num_groups} groups to train on; expected as many as folds")
    single = [label for label, of_class in enumerate(members.T.bool()) if len(groups[of_class].unique()) == 1]
    if single:
        names = [classes[label] if classes else str(label) for label in single]
        raise DataError(
            format_list(f"folds={num_folds}: classes with a single group", names)
            + "; the fold that it is in could not learn them: add images or set folds=null"
        )


def _refuse_lonely(labels: Tensor, classes: Sequence[str], given: str, remedy: str) -> None:
    """Raises DataError naming the classes with a single image."""
    single = (torch.bincount(labels) == 1).nonzero().flatten().tolist()
    lonely = [classes[label] if classes else str(label) for label in single]
    if lonely:
        raise DataError(
            format_list(f"{given}: classes with a single image", lonely)
            + f"; it cannot be both trained on and tested on: add images or set {remedy}"
        )
