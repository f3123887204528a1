"""Kaggle's image competitions, as their downloads unzip: labels in a table or in file names, pictures to predict.

    kaggle_cifar10     train/1.png …        trainLabels.csv  test/1.png …     sampleSubmission.csv
                       train_tiny/1.png …   trainLabels.csv  test_tiny/1.png …     the course's sample of it
    dog_breeds         train/<id>.jpg …     labels.csv       test/<id>.jpg …  sample_submission.csv
    dogs_vs_cats       train/cat.0.jpg …                     test1/1.jpg …    sampleSubmission.csv
    digit_recognizer   train.csv                             test.csv         sample_submission.csv

Whatever is wrong with folders, tables and ids is told at once, before a picture is opened. A sample of the
submission need not be there; nor need the pictures to predict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.cifar import CLASSES as CIFAR_CLASSES
from cnnlab.data.dataset import Competition, Dataset, Facts, ImageSet, Pictures, Side, Unlabelled
from cnnlab.data.files import Listing, list_folder, say_passed_over, stem, unlabelled_pictures
from cnnlab.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from cnnlab.data.pictures import OnBadImage, PackKind, PictureDecoder, UnsoundPictures, dataset_of_pictures
from cnnlab.data.registry import DATASETS
from cnnlab.data.resize import resize as resize_images
from cnnlab.data.tables import (
    Table,
    check_sample,
    find_by_table,
    find_sample,
    join_found,
    name_separator,
    require_folder,
)
from cnnlab.errors import DataError, abridge, format_list
from cnnlab.signature import Meaning

KAGGLE = "https://www.kaggle.com/c"  # where a competition's files are had, under Data
Cifar10Root = Annotated[str, Meaning(f"the folder with train/, trainLabels.csv and test/ of {KAGGLE}/cifar-10")]
BreedsRoot = Annotated[
    str, Meaning(f"the folder with train/, labels.csv and test/ of {KAGGLE}/dog-breed-identification")
]
PetsRoot = Annotated[str, Meaning(f"the folder with train/ and test1/ of {KAGGLE}/dogs-vs-cats")]
DigitsRoot = Annotated[str, Meaning(f"the folder with train.csv and test.csv of {KAGGLE}/digit-recognizer")]

PETS = ("cat", "dog")
DIGITS = tuple(str(digit) for digit in range(10))
PIXELS = [f"pixel{index}" for index in range(28 * 28)]
MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)


@DATASETS.register
def kaggle_cifar10(
    *, root: Cifar10Root, image_size: Side = 32, cache: str | None = None, on_bad_image: OnBadImage = "error"
) -> Dataset:
    """Kaggle's CIFAR-10: 50,000 photographs of 32×32 in ten classes, and 300,000 to predict.

    Raises DataError with everything that is wrong with the files, ids and labels.
    """
    table = Table("trainLabels.csv", classes=CIFAR_CLASSES)
    if is_tiny(root):  # beside the table and the sample of a submission of the whole competition
        found = find_by_table(root, table, "train_tiny", "test_tiny", skip=True, with_sample=False)
    else:
        found = find_by_table(root, table, skip=on_bad_image == "skip")
    return dataset_of_pictures(
        root,
        found.classes,
        found.files,
        PictureDecoder(image_size),
        cache,
        on_bad_image,
        competition=found.competition,
    )


def is_tiny(root: str) -> bool:
    """Whether a folder holds the course's sample, train_tiny/ and test_tiny/, instead of train/ and test/."""
    return (Path(root) / "train_tiny").is_dir() and not (Path(root) / "train").is_dir()


@DATASETS.register
def dog_breeds(
    *,
    root: BreedsRoot,
    image_size: Side = 224,
    resize: Side | None = 256,
    cache: str | None = None,
    pack: PackKind = "raw",
    on_bad_image: OnBadImage = "error",
) -> Dataset:
    """Kaggle's dog breeds: 10,222 photographs of 120 breeds, and 10,357 to predict.

    The classes are the breeds in labels.csv, sorted. Raises DataError with everything that is wrong with the
    files, ids and labels.
    """
    found = find_by_table(
        root, Table("labels.csv", label_column="breed"), value="probabilities", skip=on_bad_image == "skip"
    )
    return dataset_of_pictures(
        root,
        found.classes,
        found.files,
        PictureDecoder(image_size, resize, pack=pack),
        cache,
        on_bad_image,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        competition=found.competition,
    )


@DATASETS.register
def dogs_vs_cats(
    *,
    root: PetsRoot,
    image_size: Side = 224,
    resize: Side | None = 256,
    cache: str | None = None,
    pack: PackKind = "raw",
    on_bad_image: OnBadImage = "error",
    submission: Literal["auto", "class", "number", "probability"] = "auto",
) -> Dataset:
    """Kaggle's dogs vs cats: 25,000 photographs named cat.N or dog.N, and 12,500 to predict; a dog is class 1.

    Of two competitions the first, with its pictures in test1/, wants 1 or 0 and scores accuracy; its "redux", with
    test/, wants the probability of a dog and scores log loss. `submission` "auto" goes by that folder. Pictures may
    also lie in train/cats and train/dogs. Raises DataError with everything that is wrong.
    """
    base = require_folder(root)
    problems: list[str] = []
    train = list_pets(base / "train", problems)
    first = unlabelled_pictures(base / "test1")
    test = first or unlabelled_pictures(base / "test")
    value = submission if submission != "auto" else "number" if first else "probability"
    competition = Competition(value, sample=find_sample(base))
    found = join_found(base, PETS, train, test, competition, problems)
    return dataset_of_pictures(
        root,
        found.classes,
        found.files,
        PictureDecoder(image_size, resize, pack=pack),
        cache,
        on_bad_image,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        competition=found.competition,
    )


def list_pets(folder: Path, problems: list[str]) -> Pictures:
    """Labels from the names of the files, or of the folders that they lie in; ids are the names, without ending."""
    if not folder.is_dir():
        return Pictures((), (), ())
    own = list_folder(folder)
    named = {f"{name}s": label for label, name in enumerate(PETS)}
    say_passed_over(folder, Listing((), own.others, tuple(name for name in own.folders if name not in named)))
    found, strangers = [], []
    for picture in own.pictures:
        name = picture.partition(".")[0]
        if name in PETS:
            found.append((picture, PETS.index(name)))
        else:
            strangers.append(picture)
    for name, label in named.items():
        if name in own.folders:
            listing = list_folder(folder / name)
            say_passed_over(folder / name, listing)
            found += [(f"{name}/{picture}", label) for picture in listing.pictures]
    if strangers:
        problems.append(
            format_list(f"{folder.name}/: files whose name has no class", strangers) + "; expected cat.N or dog.N"
        )
    return Pictures(
        tuple(folder / picture for picture, _ in found),
        tuple(stem(picture.rpartition("/")[2]) for picture, _ in found),
        tuple(label for _, label in found),
    )


# --- Pixels in tables ---------------------------------------------------------------------------------


@DATASETS.register
def digit_recognizer(*, root: DigitsRoot, image_size: Side = 28) -> Dataset:
    """Kaggle's MNIST: 42,000 digits of 28×28 as rows of train.csv, and 28,000 to predict in test.csv.

    Raises DataError for tables of other columns, or a sample of the submission that does not fit them.
    """
    base = require_folder(root)
    problems: list[str] = []
    train, test = base / "train.csv", base / "test.csv"
    num_train = check_pixel_table(train, ["label", *PIXELS], problems)
    num_test = check_pixel_table(test, PIXELS, problems) if test.is_file() else 0
    if not problems and num_train == 0:
        problems.append("train.csv: no row below its header")
    ids = tuple(str(number) for number in range(1, num_test + 1))
    competition = Competition("class", "ImageId", "Label", find_sample(base))
    check_sample(competition, (competition.value_column,), ids or None, problems)
    if problems:
        raise UnsoundPictures(base, problems, {})

    def read(part: str) -> ImageSet:
        rows = read_pixel_table(train)
        labels = rows[:, 0].long()
        if len(labels) == 0 or int(labels.max()) >= len(DIGITS):
            raise DataError(
                f"{train}: expected labels from 0 to 9, found {int(labels.max()) if len(labels) else 'none'}"
            )
        return ImageSet.of(resize_images(rows[:, 1:].reshape(-1, 28, 28, 1), image_size), labels)

    def open_test() -> Unlabelled:
        images = read_pixel_table(test).reshape(-1, 28, 28, 1)
        return Unlabelled(ids, lambda index, shorter: resize_images(images[index : index + 1], shorter)[0].numpy())

    return Dataset(
        Facts(DIGITS, 1, image_size, MNIST_MEAN, MNIST_STD),
        parts=("train",),
        read=read,
        unlabelled=open_test if num_test else None,
        competition=competition,
    )


def check_pixel_table(path: Path, columns: list[str], problems: list[str]) -> int:
    """How many rows there are below the header; a header with other columns, or no file, is a problem."""
    if not path.is_file():
        problems.append(f"{path.name}: missing; expected a table with the columns {columns[0]} … {columns[-1]}")
        return 0
    try:
        with path.open("rb") as file:
            header = [cell.strip() for cell in file.readline().decode("utf-8-sig", "replace").split(",")]
            num_rows = sum(1 for line in file if line.strip())
    except OSError as error:
        problems.append(f"{path.name}: cannot be read ({error})")
        return 0
    if header != columns:
        problems.append(
            f"{path.name}: expected the {len(columns)} columns {columns[0]} … {columns[-1]} in this order, "
            f"found {len(header)}: {abridge([*header[:3], header[-1]])}{name_separator(header)}"
        )
    return num_rows


def read_pixel_table(path: Path) -> Tensor:
    """uint8 (rows, columns). Raises DataError naming the first cell that is no whole number from 0 to 255."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            num_columns = len(next(file, "").split(","))
            rows = np.loadtxt(file, dtype=np.uint8, delimiter=",", ndmin=2, comments=None)
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: {error} (row 0 is the first below the header)") from error
    if rows.shape[1] != num_columns:
        raise DataError(f"{path}: has {num_columns} columns in its header and {rows.shape[1]} below; expected the same")
    return torch.from_numpy(rows)
