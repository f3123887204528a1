"""Picture files, before they are a dataset: which there are, their ids and labels, and how one is decoded."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from cnnlab.data.dataset import Competition, Dataset, Facts, ImageSet, Pictures, Unlabelled
from cnnlab.data.pack import cache_folders, open_pack
from cnnlab.data.resize import crop_square, resize_picture, resized_shape
from cnnlab.data.store import Store
from cnnlab.errors import ConfigError, DataError, tell

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
ORIENTATION = ExifTags.Base.Orientation
NUMBERED = re.compile(r"(.*\W)?(\d+)")  # 17, cat.17

OnBadImage = Literal["error", "skip"]  # what happens to a file that cannot be decoded


class UnsoundPictures(DataError):
    """Everything that is wrong with the files, ids and labels of a dataset, found before a picture is opened.

    `files` is what is there nonetheless.
    """

    def __init__(self, root: Path, problems: Sequence[str], files: Mapping[str, Pictures]):
        self.root, self.problems, self.files = root, list(problems), files
        if len(self.problems) == 1:
            super().__init__(f"{root}: {self.problems[0]}")
        else:
            lines = "".join(f"\n  - {problem}" for problem in self.problems)
            super().__init__(f"{root}: {len(self.problems)} problems:{lines}")


# --- Files --------------------------------------------------------------------------------------------


def list_pictures(folder: Path) -> list[Path]:
    """The picture files of a folder in alphabetical order, or by number where all their names end in one."""
    return [folder / name for name in list_names(folder)]


def list_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(ENDINGS) and not entry.name.startswith(".") and not entry.is_dir()
        ]
    return sort_numbered(names)


def sort_numbered(names: Iterable[str]) -> list[str]:
    """File names with 2 before 10, and cat.10 before dog.2, if all of them are so numbered; else as text."""
    names = sorted(names)
    numbered = [NUMBERED.fullmatch(stem(name)) for name in names]
    if not all(numbered):
        return names
    keys = {name: (match[1] or "", int(match[2])) for name, match in zip(names, numbered, strict=True) if match}
    return sorted(names, key=keys.__getitem__)


def stem(name: str) -> str:
    """The name of a picture file without its ending."""
    return name.rpartition(".")[0]


def unlabelled_pictures(folder: Path, *, with_ending: bool = False) -> Pictures | None:
    """The pictures of a folder under their names, without ending as a rule; None where there is no folder."""
    if not folder.is_dir():
        return None
    names = list_names(folder)
    return Pictures(tuple(folder / name for name in names), tuple(names if with_ending else map(stem, names)))


# --- Decoding -----------------------------------------------------------------------------------------


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

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W, C). Raises DataError."""
        if self.resize is None:
            return crop_square(read_picture(path, self.grey, shorter=self.image_size), self.image_size)
        return read_picture(path, self.grey, shorter=self.resize)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture, of which no more than the header is read yet. Raises DataError if that, or more, is broken."""
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow reports them
        raise DataError(f"{path}: cannot be decoded ({error})") from error


def read_picture(path: Path, grey: bool, shorter: int | None = None) -> np.ndarray:
    """uint8 (H, W, 1 or 3), turned as its EXIF orientation says, its shorter side `shorter` pixels long if given.

    A JPEG of at least eight times that is decoded to a half, a quarter or an eighth of its size, which its blocks allow
    at little cost, but to no less than four times what is wanted; the antialiased resize does the rest. Such a picture
    differs from one that was decoded whole by a level or two on average. Raises DataError for a broken file.
    """
    with opened(path) as picture:
        size = picture.height, picture.width
        if shorter is not None:
            picture.draft(None, (4 * shorter, 4 * shorter))
        orientation = picture.getexif().get(ORIENTATION, 1)
        if orientation >= 5:  # turned by a quarter
            size = size[::-1]
        # Either step copies the picture even where it changes nothing.
        upright = picture if orientation == 1 else ImageOps.exif_transpose(picture)
        mode = "L" if grey else "RGB"
        pixels = np.array(upright if upright.mode == mode else upright.convert(mode))
    image = pixels.reshape(*pixels.shape[:2], -1)
    return image if shorter is None else resize_picture(image, resized_shape(*size, shorter))


# --- As a dataset -------------------------------------------------------------------------------------


def dataset_of_pictures(
    root: str,
    classes: tuple[str, ...],
    files: Mapping[str, Pictures],
    decoder: PictureDecoder,
    cache: str | None,
    on_bad_image: OnBadImage,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    competition: Competition | None = None,
) -> Dataset:
    """The dataset that picture files make up: `files` has those of each part, and "unlabelled" ones."""
    folders = cache_folders(Path(root), cache)
    unlabelled = files.get("unlabelled")
    return Dataset(
        Facts(classes, decoder.channels, decoder.image_size, mean, std, resize=decoder.resize),
        parts=tuple(part for part in files if part != "unlabelled"),
        read=lambda part: read_pictures(files[part], part, decoder, folders, on_bad_image),
        unlabelled=None if unlabelled is None else lambda: open_unlabelled(unlabelled, decoder.grey),
        competition=competition,
        files=files,
    )


def read_pictures(
    pictures: Pictures, part: str, decoder: PictureDecoder, folders: Sequence[Path], on_bad_image: OnBadImage = "error"
) -> ImageSet:
    """Labelled pictures, packed into one of `folders` (see `cache_folders`) unless they are there already.

    Those that cannot be decoded are left out and told on stderr, or raise DataError. Raises StorageError if there is
    no room to pack them.
    """
    pack = open_pack(pictures.paths, part, decoder, folders, allow_broken=on_bad_image == "skip")
    labels = pictures.label_tensor()
    images: Store = (pack.squares if decoder.resize is None else pack.pictures)(decoder.image_size)
    if pack.broken:
        names = [pictures.paths[index] for index in pack.broken]
        print(tell("pictures left out, they cannot be decoded", names), file=sys.stderr)
        whole = torch.tensor(sorted(set(range(len(pictures))) - set(pack.broken)), dtype=torch.long)
        images, labels = images.select(whole), labels[whole]
    return ImageSet(images, labels)


def open_unlabelled(pictures: Pictures, grey: bool) -> Unlabelled:
    """Pictures to predict, decoded one by one as they are asked for, to the same pixels as if they were packed."""
    return Unlabelled(pictures.ids, lambda index, shorter: read_picture(pictures.paths[index], grey, shorter))
