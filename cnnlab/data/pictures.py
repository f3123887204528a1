"""Picture files, before they are a dataset: their ids and labels, and how one is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from cnnlab.data.pack import open_pack
from cnnlab.data.registry import ImageSet, Unlabelled
from cnnlab.data.resize import crop_square, resize_picture, resized_shape
from cnnlab.errors import ConfigError, DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
ORIENTATION = ExifTags.Base.Orientation


@dataclass(frozen=True)
class Pictures:
    """Files that make up one part of a dataset; none is opened yet."""

    paths: tuple[Path, ...]
    ids: tuple[str, ...]  # what a table of predictions calls each
    labels: tuple[int, ...] | None = None  # None: not known, as of the images that a competition asks about

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class PictureDecoder:
    """What becomes of a picture before anything is cut out of it at random.

    Without `resize` a square of `image_size`: the shorter side to that, then the centre. With it the whole picture,
    its shorter side `resize` pixels long, enlarged if it is smaller: the same as torchvision's Resize.
    """

    image_size: int
    resize: int | None = None
    grey: bool = False

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < self.image_size:
            raise ConfigError(
                f"dataset.resize: {self.resize} was given; expected at least dataset.image_size, {self.image_size}: "
                "squares of that size are cut out"
            )

    def __str__(self) -> str:
        size = f"{self.image_size}x{self.image_size}" if self.resize is None else str(self.resize)
        return f"{size}-{'grey' if self.grey else 'rgb'}"

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    def measure(self, path: Path) -> int:
        """How many pixels `decode` will give. Raises DataError."""
        if self.resize is None:
            return self.image_size**2
        with opened(path) as picture:
            height, width = resized_shape(picture.height, picture.width, self.resize)
        return height * width

    def decode(self, path: Path) -> Tensor:
        """uint8 (H, W, C). Raises DataError."""
        if self.resize is None:
            return crop_square(read_picture(path, self.grey, shorter=self.image_size), self.image_size)
        return read_picture(path, self.grey, shorter=self.resize)


def read_pictures(pictures: Pictures, part: str, decoder: PictureDecoder, folders: Sequence[Path]) -> ImageSet:
    """Labelled pictures, packed into one of `folders` (see `cache_folders`) unless they are there already.

    Raises DataError naming every file that cannot be read, StorageError if there is no room to pack them.
    """
    assert pictures.labels is not None
    pack = open_pack(pictures.paths, part, decoder, folders)
    labels = torch.tensor(pictures.labels)
    if decoder.resize is None:
        return ImageSet(pack.as_tensor(decoder.image_size), labels)
    return ImageSet(pack.as_images(decoder.image_size), labels)


def open_unlabelled(pictures: Pictures, decoder: PictureDecoder) -> Unlabelled:
    """Pictures to predict, decoded one by one as they are asked for, to the same pixels as if they were packed."""
    return Unlabelled(pictures.ids, lambda place: decoder.decode(pictures.paths[place]))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture, of which no more than the header is read yet. Raises DataError if that, or more, is broken."""
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow reports them
        raise DataError(f"{path}: cannot be decoded ({error})") from error


def read_picture(path: Path, grey: bool, shorter: int | None = None) -> Tensor:
    """uint8 (H, W, 1 or 3), turned as its EXIF orientation says, its shorter side `shorter` pixels long if given.

    A JPEG of at least eight times that is decoded to a half, a quarter or an eighth of its size, which its blocks allow
    at little cost, but to no less than four times what is wanted; the antialiased resize does the rest. Such a picture
    differs from one that was decoded whole by a level or two on average. Raises DataError for a broken file.
    """
    with opened(path) as picture:
        size = picture.height, picture.width
        if shorter is not None:
            picture.draft(None, (4 * shorter, 4 * shorter))
        if picture.getexif().get(ORIENTATION, 1) >= 5:  # turned by a quarter
            size = size[::-1]
        pixels = np.array(ImageOps.exif_transpose(picture).convert("L" if grey else "RGB"))
    image = torch.from_numpy(pixels).view(*pixels.shape[:2], -1)
    return image if shorter is None else resize_picture(image, resized_shape(*size, shorter))
