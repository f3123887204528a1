"""What a dataset is: facts that a network is made for, and how to read the images.

A reader (one a file in this package) knows both before it opens an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.store import Resident, Store
from cnnlab.signature import Range
from cnnlab.tasks import BINARY, MULTICLASS, MULTILABEL, REGRESSION, Task

Label = int | tuple[int, ...]  # the class; 0 or 1 for each label, where an image has several

# Pixels of an image's side, as users may ask for them: no network or memory is made for more.
Side = Annotated[int, Range(at_least=1, at_most=8192)]


@dataclass(frozen=True)
class Facts:
    """What a network has to know of the images that it is made for; kept in a run's dataset.json.

    Without `mean` and `std` (of pixels in 0…1, one number a channel) they are computed from the training images.
    """

    classes: tuple[str, ...]  # of several an image, the labels; for regression, the names of the targets
    channels: int
    image_size: int  # pixels a side; images are square
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    task: Task = MULTICLASS
    resize: int | None = None  # pixels of a picture's shorter side before its centre is cut out; None: image_size

    @property
    def num_outputs(self) -> int:
        """How many numbers a network gives for an image."""
        return 1 if self.task is BINARY else len(self.classes)

    @property
    def shorter_side(self) -> int:
        """Pixels of a picture's shorter side before its centre is cut out."""
        return self.resize or self.image_size

    def name(self, label: Label) -> str:
        """The class, or the labels that an image has."""
        if isinstance(label, tuple):
            return " ".join(name for name, is_so in zip(self.classes, label, strict=True) if is_so)
        return self.classes[label]

    @property
    def maps_number_to_number(self) -> bool:
        """Whether a plane can show all of it."""
        return self.task is REGRESSION and (self.channels, self.image_size, self.num_outputs) == (1, 1, 1)


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels."""

    store: Store
    labels: Tensor  # int64 (N,); float32 (N, labels) of 0 and 1 where an image has several, (N, targets) for regression
    files: Pictures | None = None  # that they were read from, one each

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def holds_pixels(self) -> bool:
        """Whether the images are pictures, and not other numbers."""
        return self.store.holds_pixels

    def name(self, indices: Iterable[int]) -> list[str]:
        """What the dataset calls some of the images: their ids or, where it has none, their indices from 0."""
        return [str(index) if self.files is None else self.files.ids[index] for index in indices]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> ImageSet:
        """Of images (N, S, S, C) in memory."""
        return cls(Resident(images), labels)

    def to(self, device: torch.device) -> ImageSet:
        """On the device that computes; packed images stay in their file."""
        return ImageSet(self.store.to(device), self.labels.to(device), self.files)

    def join(self, other: ImageSet) -> ImageSet:
        """These images and, after them, others of the same kind."""
        files = self.files.join(other.files) if self.files is not None and other.files is not None else None
        return ImageSet(self.store.join(other.store), torch.cat([self.labels, other.labels]), files)


@dataclass(frozen=True)
class Unlabelled:
    """Images whose labels nobody has told: what a competition asks about, or a user's own."""

    ids: tuple[str, ...]  # what a table of predictions calls each
    # index, pixels of the shorter side → uint8 (H, W, C) of that size; raises DataError for a broken file
    open: Callable[[int, int], np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Competition:
    """What a submission has to look like: its columns, and the sample that its ids and order are held against."""

    # A name; its number from 0; the probability of the second class; one a class.
    value: Literal["class", "number", "probability", "probabilities"]
    id_column: str = "id"
    value_column: str = "label"  # for "probabilities" the columns are the classes
    sample: Path | None = None
    separator: str | None = None  # between the names in one cell, where an image has several labels; None: columns

    def columns(self, facts: Facts) -> tuple[str, ...]:
        """Those after the ids."""
        is_wide = self.value == "probabilities" or (facts.task is MULTILABEL and self.separator is None)
        return facts.classes if is_wide else (self.value_column,)


@dataclass(frozen=True)
class Pictures:
    """Files that make up one part of a dataset; none is opened yet."""

    paths: tuple[Path, ...]
    ids: tuple[str, ...]  # what a table calls each: a competition's id, a file's name, its path below the root
    labels: tuple[Label, ...] | None = None  # None: not known, as of the images that a competition asks about
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # others of the table that has the labels

    def __len__(self) -> int:
        return len(self.paths)

    def label_tensor(self) -> Tensor:
        """As in an ImageSet."""
        assert self.labels is not None, "asked of pictures whose labels are known"
        has_several = len(self.labels) > 0 and isinstance(self.labels[0], tuple)
        return torch.tensor(self.labels, dtype=torch.float32 if has_several else torch.long)

    def select(self, indices: Iterable[int]) -> Pictures:
        """Some of them, in the order of `indices`."""
        chosen = list(indices)
        return Pictures(
            tuple(self.paths[index] for index in chosen),
            tuple(self.ids[index] for index in chosen),
            None if self.labels is None else tuple(self.labels[index] for index in chosen),
            {name: tuple(cells[index] for index in chosen) for name, cells in self.columns.items()},
        )

    def join(self, other: Pictures) -> Pictures:
        """These and, after them, others, all labelled."""
        assert self.labels is not None and other.labels is not None, "asked of pictures whose labels are known"
        columns = {name: cells + other.columns[name] for name, cells in self.columns.items() if name in other.columns}
        return Pictures(self.paths + other.paths, self.ids + other.ids, self.labels + other.labels, columns)


@dataclass(frozen=True)
class Dataset:
    """The facts, and how to read the images: what a reader returns.

    `parts` are the parts that the source itself has: "train", and "valid" and "test" where it comes
    split; `read(part)` returns one of them, or raises DataError.
    """

    facts: Facts
    parts: tuple[str, ...]
    read: Callable[[str], ImageSet]
    unlabelled: Callable[[], Unlabelled] | None = None  # what a competition asks about
    competition: Competition | None = None
    # The files of a dataset that is made of pictures: those of each part, and of "unlabelled".
    files: Mapping[str, Pictures] = field(default_factory=dict)
    verify: Callable[[], None] | None = None  # holds what is kept of decoded pictures against its checksums
