"""A folder of pictures with a sub-folder for each class, split into train, valid and test or not.

    root/cat/1.jpg  root/dog/7.png …                  one pool, split by `split.valid` and `split.test`
    root/train/cat/1.jpg …  root/test/cat/9.jpg …     train, and valid and test where they are
    root/test/unknown/12.jpg …                        beside them: pictures to predict

A part may have another of its usual names: training; val, validation, dev; testing. `train_valid`, as the course notes'
tree has it, is the same pictures again and is passed over; any other folder beside the parts is named on stderr.
Pictures may lie in sub-folders of a class. The id of a picture is its path below the root, that of one to predict its
path below `unknown`, without ending. Every picture is decoded once and packed: see `pack.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cnnlab.data.dataset import Competition, Dataset, Pictures, Side
from cnnlab.data.files import (
    ENDINGS,
    Listing,
    check_classes,
    list_folder,
    say_passed_over,
    stem,
)
from cnnlab.data.pictures import OnBadImage, PackKind, PictureDecoder, UnsoundPictures, dataset_of_pictures
from cnnlab.data.registry import DATASETS
from cnnlab.distributed import say
from cnnlab.errors import DataError, format_list
from cnnlab.signature import Meaning

NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
COPY = "train_valid"
UNKNOWN = "unknown"  # the sub-folder of test/ whose pictures have no class


@DATASETS.register
def image_folder(
    *,
    root: Annotated[str, Meaning("the folder with a sub-folder of pictures for each class")],
    image_size: Side = 64,
    resize: Side | None = None,
    grey: bool = False,
    cache: str | None = None,
    pack: PackKind = "raw",
    on_bad_image: OnBadImage = "error",
) -> Dataset:
    """Any pictures, one sub-folder a class; classes are the sub-folders' names in alphabetical order.

    Raises DataError if a folder is missing or empty, a part has a class that train does not know or stands there under
    two names, classes cannot be told apart, or pictures lie beside the classes.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"dataset.root: no folder {base}; expected one with a sub-folder of pictures for each class")
    problems: list[str] = []
    found = {part: list_classes(folder) for part, folder in find_parts(base, problems).items()}
    train = found["train"]
    classes = tuple(train.listings)
    if not classes:
        raise DataError(
            f"{train.folder}: no sub-folder holds a picture ({', '.join(ENDINGS)}); "
            "expected one sub-folder for each class"
        )
    check_classes(classes, problems)
    files: dict[str, Pictures] = {}
    for part, folders in found.items():
        if part == "test" and UNKNOWN in folders.listings and UNKNOWN not in classes:
            asked = folders.listings.pop(UNKNOWN).pictures
            paths = tuple(folders.folder / UNKNOWN / name for name in asked)
            files["unlabelled"] = Pictures(paths, tuple(map(stem, asked)))
        elif not folders.listings:
            say(f"{folders.folder}: holds no picture in a folder of a class; it is no part of the dataset")
        unknown = [name for name in folders.listings if name not in classes]
        if unknown:
            problems.append(
                f"{format_list(f'{folders.folder.name}/: classes that {train.folder.name}/ does not have', unknown)}; "
                f"its own are {', '.join(classes)}"
            )
        if folders.beside:
            problems.append(
                format_list(f"{folders.folder.name}/: pictures outside the folders of the classes", folders.beside)
            )
        if folders.listings:
            files[part] = labelled_pictures(base, folders, classes)
    if problems:
        raise UnsoundPictures(base, problems, files)
    return dataset_of_pictures(
        root,
        classes,
        files,
        PictureDecoder(image_size, resize, grey, pack),
        cache,
        on_bad_image,
        competition=Competition("class") if "unlabelled" in files else None,
    )


# --- Parts --------------------------------------------------------------------------------------------


def find_parts(base: Path, problems: list[str]) -> dict[str, Path]:
    """The folder of each part; without one to train on the root itself is that."""
    folders = list_folder(base).folders
    named = {part: [name for name in folders if name.casefold() in names] for part, names in NAMES.items()}
    if not any(holds_folders(base / name) for name in named["train"]):
        parts = [name for part in ("valid", "test") for name in named[part] if holds_folders(base / name)]
        if parts:
            problems.append(f"{format_list('parts without one to train on', parts)}; expected train/ beside them")
        return {"train": base}  # where a folder called train may well be the class of trains
    for part, names in named.items():
        if len(names) > 1:
            problems.append(f"{format_list(f'folders that are each the {part} part', names)}; expected one of them")
    others = [
        name for name in folders if name.casefold() != COPY and not any(name in names for names in named.values())
    ]
    if others:
        expected = "; ".join(f"{part}: {', '.join(names)}" for part, names in NAMES.items())
        say(f"{format_list(f'{base}: folders beside the parts passed over', others)} (names of parts are {expected})")
    return {part: base / names[0] for part, names in named.items() if names}


def holds_folders(folder: Path) -> bool:
    """Whether this is a part, with folders of classes, rather than a class, with pictures alone."""
    listing = list_folder(folder)
    return bool(listing.folders) or not listing.pictures


# --- Classes ------------------------------------------------------------------------------------------


class ClassFolders:
    """The folders of the classes in a part, those without a picture left out and named on stderr."""

    def __init__(self, folder: Path, listings: dict[str, Listing], beside: Sequence[str]):
        self.folder = folder
        self.listings = listings
        self.beside = beside  # pictures that lie in no class


def list_classes(folder: Path) -> ClassFolders:
    own = list_folder(folder)
    listings = {name: list_folder(folder / name, below=True) for name in own.folders}
    others = tuple(f"{name}/{other}" for name, listing in listings.items() for other in listing.others)
    say_passed_over(folder, Listing((), others, ()))
    empty = [name for name, listing in listings.items() if not listing.pictures]
    if empty:
        say(format_list(f"{folder}: folders without a picture are no class", empty))
    return ClassFolders(folder, {name: one for name, one in listings.items() if one.pictures}, own.pictures)


def labelled_pictures(base: Path, folders: ClassFolders, classes: Sequence[str]) -> Pictures:
    """The pictures of a part, class after class. Their ids begin at the root, so that those of two parts differ."""
    prefix = "" if folders.folder == base else f"{folders.folder.name}/"
    names = [
        (f"{prefix}{name}/{picture}", label)
        for label, name in enumerate(classes)
        if name in folders.listings
        for picture in folders.listings[name].pictures
    ]
    return Pictures(
        tuple(base / name for name, _ in names), tuple(name for name, _ in names), tuple(label for _, label in names)
    )
