"""Picture files, before they are a dataset: their ids and labels, and how one is decoded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from cnnlab.data.registry import ImageSet, Unlabelled
from cnnlab.data.resize import crop_square
from cnnlab.errors import DataError
from cnnlab.runtime import num_cores

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
NUM_LISTED = 10  # broken files named in an error


@dataclass(frozen=True)
class Pictures:
    """Files that make up one part of a dataset; none is opened yet."""

    paths: tuple[Path, ...]
    ids: tuple[str, ...]  # what a table of predictions calls each
    labels: tuple[int, ...] | None = None  # None: not known, as of the images that a competition asks about

    def __len__(self) -> int:
        return len(self.paths)


def read_pictures(pictures: Pictures, image_size: int, grey: bool) -> ImageSet:
    """Labelled pictures as squares of `image_size`. Raises DataError naming every file that cannot be read."""
    assert pictures.labels is not None
    return ImageSet(decode(list(pictures.paths), image_size, grey), torch.tensor(pictures.labels))


def open_unlabelled(pictures: Pictures, grey: bool) -> Unlabelled:
    """Pictures to predict, decoded one by one as they are asked for, as large as they are."""
    return Unlabelled(pictures.ids, lambda place: read_picture(pictures.paths[place], grey))


def decode(paths: list[Path], size: int, grey: bool) -> torch.Tensor:
    """Picture files → uint8 (N, size, size, 1 or 3). Raises DataError naming every file that cannot be read."""
    images = torch.empty(len(paths), size, size, 1 if grey else 3, dtype=torch.uint8)

    def fill(index: int) -> str | None:
        try:
            images[index] = crop_square(read_picture(paths[index], grey), size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow reports them
            return f"{paths[index]} ({error})"
        return None

    with ThreadPoolExecutor(num_cores()) as pool:
        broken = [message for message in pool.map(fill, range(len(paths))) if message]
    if broken:
        shown = "\n".join(f"  {message}" for message in broken[:NUM_LISTED])
        raise DataError(f"{len(broken)} pictures cannot be decoded; mend or remove them:\n{shown}")
    return images


def read_picture(path: Path, grey: bool) -> torch.Tensor:
    """uint8 (H, W, 1 or 3), turned as its EXIF orientation says."""
    with Image.open(path) as picture:
        pixels = np.asarray(ImageOps.exif_transpose(picture).convert("L" if grey else "RGB"))
    return torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1)
