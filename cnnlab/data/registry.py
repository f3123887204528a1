"""What a dataset is to the rest of cnnlab, and the registries that this package fills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from cnnlab.registry import Registry

DATASETS = Registry("dataset")

# An augmentation is handed a batch and a source of random numbers: see `augment.py`.
AUGMENTS = Registry("augment", supplied=("images", "draw"))


@dataclass(frozen=True)
class ImageSet:
    """Images as decoders write them and as channels_last convolutions read them, with their labels."""

    images: Tensor  # uint8 (N, H, W, C)
    labels: Tensor  # int64 (N,)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """What a reader knows before it opens the images, and how to open them.

    `parts` are the parts that the source itself has: "train", and "valid" and "test" where it comes
    split; `read(part)` returns one of them, or raises DataError. Without `mean` and `std` (of pixels
    in 0…1, one number a channel) they are computed from the training images.
    """

    classes: tuple[str, ...]
    channels: int
    image_size: int  # pixels a side; images are square
    parts: tuple[str, ...]
    read: Callable[[str], ImageSet]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
