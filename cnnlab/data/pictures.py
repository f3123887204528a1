"""Picture files, before they are a dataset: which there are, their ids and labels, and how one is decoded."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cnnlab.data.registry import Competition, Dataset, ImageSet, Unlabelled
from cnnlab.data.resize import crop_square
from cnnlab.errors import ConfigError, DataError
from cnnlab.runtime import num_cores

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
NUMBERED = re.compile(r"(.*\W)?(\d+)")  # 17, cat.17
NUM_LISTED = 10  # names that a message gives

OnBadImage = Literal["error", "skip"]  # what happens to a file that cannot be decoded


@dataclass(frozen=True)
class Pictures:
    """Files that make up one part of a dataset; none is opened yet."""

    paths: tuple[Path, ...]
    ids: tuple[str, ...]  # what a table of predictions calls each
    labels: tuple[int, ...] | None = None  # None: not known, as of the images that a competition asks about

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: Iterable[int]) -> Pictures:
        """Some of them, in the order of `places`."""
        chosen = list(places)
        return Pictures(
            tuple(self.paths[place] for place in chosen),
            tuple(self.ids[place] for place in chosen),
            None if self.labels is None else tuple(self.labels[place] for place in chosen),
        )


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


def tell(what: str, names: Iterable[object]) -> str:
    """`what`, how many names there are, and the first ten of them."""
    names = [str(name) for name in names]
    more = ", …" if len(names) > NUM_LISTED else ""
    return f"{what} ({len(names):,}): {', '.join(names[:NUM_LISTED])}{more}"


# --- Files --------------------------------------------------------------------------------------------


def list_pictures(folder: Path) -> list[Path]:
    """The picture files of a folder in alphabetical order, or by number where all their names end in one."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(ENDINGS) and not entry.name.startswith(".") and not entry.is_dir()
        ]
    return [folder / name for name in sort_numbered(names)]


def sort_numbered(names: Iterable[str]) -> list[str]:
    """File names with 2 before 10, and cat.10 before dog.2, if all of them are so numbered; else as text."""
    names = sorted(names)
    numbered = [NUMBERED.fullmatch(os.path.splitext(name)[0]) for name in names]
    if not all(numbered):
        return names
    keys = {name: (match[1] or "", int(match[2])) for name, match in zip(names, numbered, strict=True) if match}
    return sorted(names, key=keys.__getitem__)


def unlabelled_pictures(folder: Path, *, with_ending: bool = False) -> Pictures | None:
    """The pictures of a folder under their names, without ending as a rule; None where there is no folder."""
    if not folder.is_dir():
        return None
    paths = list_pictures(folder)
    return Pictures(tuple(paths), tuple(path.name if with_ending else path.stem for path in paths))


# --- As a dataset -------------------------------------------------------------------------------------


def dataset_of_pictures(
    classes: tuple[str, ...],
    files: Mapping[str, Pictures],
    *,
    image_size: int,
    resize: int | None = None,
    grey: bool = False,
    on_bad_image: OnBadImage = "error",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    competition: Competition | None = None,
) -> Dataset:
    """The dataset that picture files make up: `files` has those of each part, and "unlabelled" ones.

    Raises ConfigError if `resize` is too small for `image_size` to be cut out.
    """
    if resize is not None and resize < image_size:
        raise ConfigError(f"dataset.resize: {resize} was given; expected at least dataset.image_size, {image_size}")
    unlabelled = files.get("unlabelled")
    return Dataset(
        classes=classes,
        channels=1 if grey else 3,
        image_size=image_size,
        parts=tuple(part for part in files if part != "unlabelled"),
        read=lambda part: read_pictures(files[part], image_size, resize, grey, on_bad_image),
        mean=mean,
        std=std,
        resize=resize,
        unlabelled=None if unlabelled is None else lambda: open_unlabelled(unlabelled, grey),
        competition=competition,
        files=files,
    )


def read_pictures(
    pictures: Pictures, image_size: int, resize: int | None, grey: bool, on_bad_image: OnBadImage
) -> ImageSet:
    """Labelled pictures as squares: shorter side to `resize`, then the centre of `image_size` pixels.

    Those that cannot be decoded are left out and told on stderr, or raise DataError.
    """
    assert pictures.labels is not None
    images, broken = decode(pictures.paths, image_size, resize, grey)
    labels = torch.tensor(pictures.labels)
    if broken:
        if on_bad_image == "error":
            raise DataError(explain_broken(broken))
        print(tell("pictures left out, they cannot be decoded", broken), file=sys.stderr)
        whole = torch.tensor([path not in broken for path in pictures.paths])
        images, labels = images[whole], labels[whole]
    return ImageSet(images, labels)


def open_unlabelled(pictures: Pictures, grey: bool) -> Unlabelled:
    """Pictures to predict, decoded one by one as they are asked for, as large as they are."""
    return Unlabelled(pictures.ids, lambda place: read_picture(pictures.paths[place], grey))


# --- Decoding -----------------------------------------------------------------------------------------


def decode(paths: Sequence[Path], size: int, resize: int | None, grey: bool) -> tuple[Tensor, dict[Path, str]]:
    """Picture files → uint8 (N, size, size, 1 or 3), and why some of them could not be decoded."""
    images = torch.empty(len(paths), size, size, 1 if grey else 3, dtype=torch.uint8)

    def fill(place: int) -> str | None:
        try:
            images[place] = crop_square(read_picture(paths[place], grey), size, resize)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(num_cores()) as pool:
        reasons = pool.map(fill, range(len(paths)))
    return images, {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def explain_broken(broken: Mapping[Path, str]) -> str:
    shown = "".join(f"\n  {reason}" for reason in list(broken.values())[:NUM_LISTED])
    return (
        f"{len(broken)} pictures cannot be decoded; mend or remove them, or leave them out with "
        f"dataset.on_bad_image=skip:{shown}"
    )


def read_picture(path: Path, grey: bool) -> Tensor:
    """uint8 (H, W, 1 or 3), turned as its EXIF orientation says. Raises DataError if it cannot be decoded."""
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow reports them
        raise DataError(f"{path}: cannot be decoded ({error})") from error
    return torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1)
