"""A folder of pictures with a sub-folder for each class, split into train, valid and test or not.

    root/cat/1.jpg  root/dog/7.png …                  one pool, split by `split.valid` and `split.test`
    root/train/cat/1.jpg …  root/test/cat/9.jpg …     train, and valid and test where they are
    root/test/unknown/12.jpg …                        beside them: pictures to predict

What else lies in a root with `train` is passed over, as the course notes' `train_valid` is: the same pictures
again. Every picture is decoded once and packed: see `pack.py`.
"""

from __future__ import annotations

from pathlib import Path

from cnnlab.data.dataset import Competition, Dataset, Pictures
from cnnlab.data.pictures import (
    ENDINGS,
    OnBadImage,
    PictureDecoder,
    UnsoundPictures,
    dataset_of_pictures,
    list_pictures,
    unlabelled_pictures,
)
from cnnlab.data.registry import DATASETS
from cnnlab.errors import DataError, tell
from cnnlab.signature import Count

PARTS = ("train", "valid", "test")
UNKNOWN = "unknown"  # the sub-folder of test/ whose pictures have no class


@DATASETS.register
def image_folder(
    *,
    root: str,
    image_size: Count = 64,
    resize: Count | None = None,
    grey: bool = False,
    cache: str | None = None,
    on_bad_image: OnBadImage = "error",
) -> Dataset:
    """Any pictures, one sub-folder a class; classes are the sub-folders' names in alphabetical order.

    Raises DataError if a folder is missing or empty, a part has a class that train does not know, or pictures
    lie beside the classes.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"dataset.root: no folder {base}; expected one with a sub-folder of pictures for each class")
    trained = base / "train" if (base / "train").is_dir() else base
    classes = tuple(list_classes(trained))
    if not classes:
        raise DataError(
            f"{trained}: no sub-folder holds a picture ({', '.join(ENDINGS)}); expected one sub-folder for each class"
        )
    folders = {"train": trained}
    if trained != base:
        folders = {part: base / part for part in PARTS if (base / part).is_dir()}
    files: dict[str, Pictures] = {}
    problems = []
    for part, folder in folders.items():
        found = list_classes(folder)
        if part == "test" and UNKNOWN in found and UNKNOWN not in classes:
            found.remove(UNKNOWN)
            unlabelled = unlabelled_pictures(folder / UNKNOWN)
            assert unlabelled is not None
            files["unlabelled"] = unlabelled
        unknown = [name for name in found if name not in classes]
        if unknown:
            problems.append(f"{part}/: {', '.join(unknown)} is no class of train/ ({', '.join(classes)})")
        beside = [path.name for path in list_pictures(folder)]
        if beside:
            problems.append(tell(f"{folder.name}/: pictures outside the folders of the classes", beside))
        if found:
            files[part] = labelled_pictures(folder, classes)
    if problems:
        raise UnsoundPictures(base, problems, files)
    return dataset_of_pictures(
        root,
        classes,
        files,
        PictureDecoder(image_size, resize, grey),
        cache,
        on_bad_image,
        competition=Competition("class") if "unlabelled" in files else None,
    )


def list_classes(folder: Path) -> list[str]:
    """The sub-folders that hold a picture."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and list_pictures(path)
    )


def labelled_pictures(folder: Path, classes: tuple[str, ...]) -> Pictures:
    found = [(path, label) for label, name in enumerate(classes) for path in list_pictures(folder / name)]
    return Pictures(
        tuple(path for path, _ in found), tuple(path.stem for path, _ in found), tuple(label for _, label in found)
    )
