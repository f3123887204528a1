"""A folder of pictures with a sub-folder for each class, split into train, valid and test or not.

    root/cat/1.jpg  root/dog/7.png …                  one pool, split by `split.valid` and `split.test`
    root/train/cat/1.jpg …  root/test/cat/9.jpg …     train, and valid and test where they are

Every picture is decoded once, in threads, to a square of `image_size` (shorter side resized, centre
cropped), and kept as uint8.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from cnnlab.data.registry import DATASETS, Dataset, ImageSet
from cnnlab.data.resize import crop_square
from cnnlab.errors import DataError
from cnnlab.runtime import num_cores
from cnnlab.signature import Count

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
PARTS = ("train", "valid", "test")
NUM_LISTED = 10  # broken files named in an error


@DATASETS.register
def image_folder(*, root: str, image_size: Count = 64, grey: bool = False) -> Dataset:
    """Any pictures, one sub-folder a class; classes are the sub-folders' names in alphabetical order.

    Raises DataError if a folder is missing or empty, or a part has a class that train does not know.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"dataset.root: no folder {base}; expected one with a sub-folder of pictures for each class")
    parts = {part: base / part for part in PARTS if (base / part).is_dir()}
    if "train" not in parts:
        parts = {"train": base}
    classes = tuple(sorted(path.name for path in parts["train"].iterdir() if _is_class(path)))
    if not classes:
        raise DataError(
            f"{parts['train']}: no sub-folder holds a picture ({', '.join(ENDINGS)}); "
            "expected one sub-folder for each class"
        )
    for folder in parts.values():
        unknown = sorted({path.name for path in folder.iterdir() if _is_class(path)} - set(classes))
        if unknown:
            raise DataError(f"{folder}: {', '.join(unknown)} is no class of {parts['train']} ({', '.join(classes)})")

    def read(part: str) -> ImageSet:
        files = [(path, label) for label, name in enumerate(classes) for path in _pictures(parts[part] / name)]
        return ImageSet(
            decode([path for path, _ in files], image_size, grey),
            torch.tensor([label for _, label in files]),
        )

    return Dataset(classes, 1 if grey else 3, image_size, tuple(parts), read)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and bool(_pictures(path))


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
