"""What a dataset is to the rest of cnnlab, and the registries that this package fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.pack import PackedImages
from cnnlab.registry import Registry
from cnnlab.tasks import Task

if TYPE_CHECKING:
    from cnnlab.data.pictures import Pictures


@dataclass(frozen=True)
class ForEveryDataset:
    """Keys that stand beside any dataset's own."""

    task: Literal["multiclass", "binary"] | None = None  # of a dataset with two classes; None: as the dataset says
    normalize: Literal["auto"] | None = None  # by the training images' own mean and std; None: as the dataset says


DATASETS = Registry("dataset", shared=ForEveryDataset)

# What is cut out of each image, before any augmentation: see `crops.py`.
CROPS = Registry("crop", supplied=("sizes", "draw"))

# An augmentation is handed a batch and a source of random numbers: see `augment.py`.
AUGMENTS = Registry("augment", supplied=("images", "draw"))
Draw = Callable[[int], Tensor]

# What makes one image of two, behind every augmentation: see `mix.py`.
MIXES = Registry("mix", supplied=("images", "partners", "rng"))


@dataclass(frozen=True)
class ImageSet:
    """Images as decoders write them and as channels_last convolutions read them, with their labels."""

    # uint8 (N, H, W, C), or float32 for numbers that are no pixels and stay as they are; or of any sizes, in a file
    images: Tensor | PackedImages
    labels: Tensor  # int64 (N,); float32 (N, targets) for regression

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def holds_pixels(self) -> bool:
        return isinstance(self.images, PackedImages) or not self.images.is_floating_point()

    def to(self, device: torch.device) -> ImageSet:
        """On the device that computes; packed images stay in their file."""
        images = self.images if isinstance(self.images, PackedImages) else self.images.to(device)
        return ImageSet(images, self.labels.to(device))

    def join(self, other: ImageSet) -> ImageSet:
        """These images and those behind them, of the same kind."""
        if isinstance(self.images, PackedImages):
            assert isinstance(other.images, PackedImages), "parts of one dataset are alike"
            images: Tensor | PackedImages = self.images.join(other.images)
        else:
            assert isinstance(other.images, Tensor), "parts of one dataset are alike"
            images = torch.cat([self.images, other.images])
        return ImageSet(images, torch.cat([self.labels, other.labels]))


@dataclass(frozen=True)
class Unlabelled:
    """Images whose labels nobody has told: what a competition asks about, or a user's own."""

    ids: tuple[str, ...]  # what a table of predictions calls each
    # place, pixels of the shorter side → uint8 (H, W, C) of that size; raises DataError for a broken file
    open: Callable[[int, int], np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Competition:
    """What a submission has to look like: its columns, and the sample that its ids and order are held against."""

    value: Literal["class", "probability", "probabilities"]  # a name; that of the second class; one a class
    id_column: str = "id"
    value_column: str = "label"  # for "probabilities" the columns are the classes
    sample: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """What a reader knows before it opens the images, and how to open them.

    `parts` are the parts that the source itself has: "train", and "valid" and "test" where it comes
    split; `read(part)` returns one of them, or raises DataError. Without `mean` and `std` (of pixels
    in 0…1, one number a channel) they are computed from the training images.
    """

    classes: tuple[str, ...]  # for regression, the names of the targets
    channels: int
    image_size: int  # pixels a side; images are square
    parts: tuple[str, ...]
    read: Callable[[str], ImageSet]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    task: Task = "multiclass"
    resize: int | None = None  # pixels of a picture's shorter side before its centre is cut out; None: image_size
    unlabelled: Callable[[], Unlabelled] | None = None  # what a competition asks about
    competition: Competition | None = None
    # The files of a dataset that is made of pictures: those of each part, and of "unlabelled".
    files: Mapping[str, Pictures] = field(default_factory=dict)

    @property
    def num_outputs(self) -> int:
        """How many numbers a network has to answer with."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def maps_number_to_number(self) -> bool:
        """Whether a plane can show all of it."""
        return self.task == "regression" and (self.channels, self.image_size, self.num_outputs) == (1, 1, 1)
