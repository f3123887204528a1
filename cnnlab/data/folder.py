"""A folder of pictures with a sub-folder for each class, split into train, valid and test or not.

    root/cat/1.jpg  root/dog/7.png …                  one pool, split by `split.valid` and `split.test`
    root/train/cat/1.jpg …  root/test/cat/9.jpg …     train, and valid and test where they are

Every picture is decoded once and packed: see `pack.py`.
"""

from __future__ import annotations

from pathlib import Path

from cnnlab.data.pack import cache_folders
from cnnlab.data.pictures import ENDINGS, PictureDecoder, Pictures, read_pictures
from cnnlab.data.registry import DATASETS, Dataset, ImageSet
from cnnlab.errors import DataError
from cnnlab.signature import Count

PARTS = ("train", "valid", "test")


@DATASETS.register
def image_folder(
    *, root: str, image_size: Count = 64, resize: Count | None = None, grey: bool = False, cache: str | None = None
) -> Dataset:
    """Any pictures, one sub-folder a class; classes are the sub-folders' names in alphabetical order.

    Raises ConfigError if `resize` is smaller than `image_size`, DataError if a folder is missing or empty, or a part
    has a class that train does not know.
    """
    decoder = PictureDecoder(image_size, resize, grey)
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
        paths = tuple(path for path, _ in files)
        pictures = Pictures(paths, tuple(path.stem for path in paths), tuple(label for _, label in files))
        return read_pictures(pictures, part, decoder, cache_folders(base, cache))

    return Dataset(classes, decoder.channels, image_size, tuple(parts), read, resize=resize)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and bool(_pictures(path))
