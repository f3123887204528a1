"""The 1,797 handwritten digits of the UCI test set, embedded: a real dataset without a download.

Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, licensed CC BY 4.0. `digits.npz` holds the images as they are published: 8×8
counts from 0 to 16.
"""

from __future__ import annotations

from importlib.resources import files
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.dataset import Dataset, Facts, ImageSet, Side
from cnnlab.data.registry import DATASETS
from cnnlab.data.resize import resize
from cnnlab.errors import DataError


@DATASETS.register
def digits(*, image_size: Side = 28) -> Dataset:
    """Ten classes of grey digits; enlarged to 28×28 so that networks made for MNIST fit (8 keeps them)."""

    def read(part: str) -> ImageSet:
        with (files("cnnlab.data") / "digits.npz").open("rb") as file:
            counts, labels = read_counts(file)  # type: ignore[arg-type]
        images = (counts.float() * (255 / 16)).round().to(torch.uint8).unsqueeze(-1)  # (1797, 8, 8, 1)
        return ImageSet.of(resize(images, image_size), labels.long())

    return Dataset(Facts(tuple(str(digit) for digit in range(10)), 1, image_size), ("train",), read)


def read_counts(file: BinaryIO) -> tuple[Tensor, Tensor]:
    """Counts (N, 8, 8) and labels (N,). Raises DataError for a damaged file, which its checksums show."""
    try:
        with np.load(file) as stored:
            return torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    except Exception as error:  # whatever a damaged archive makes of its reader
        raise DataError(f"digits.npz: is damaged ({type(error).__name__}: {error}); install cnnlab again") from error
