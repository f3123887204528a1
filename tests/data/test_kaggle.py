"""Kaggle's layouts and tables beside folders: read exactly, and refused with everything that is wrong at once."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.data import DATASETS, Competition, Dataset
from cnnlab.data.cifar import CLASSES as CIFAR_CLASSES
from cnnlab.data.files import sort_numbered
from cnnlab.data.resize import crop_square
from cnnlab.errors import ConfigError, DataError
from tests.conftest import build_from
from tests.data.kaggle import (
    BREEDS,
    write_digit_recognizer,
    write_dog_breeds,
    write_dogs_vs_cats,
    write_kaggle_cifar10,
    write_table,
)


def build(name: str, root: Path, **arguments) -> Dataset:
    return build_from(DATASETS, {"name": name, "root": str(root), **arguments})


def read_table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def edit_table(path: Path, edit) -> None:
    """Write a table again, its rows below the header changed by `edit`."""
    header, *rows = read_table(path)
    write_table(path, header, edit(rows))


def find_problems(name: str, root: Path, **arguments) -> str:
    with pytest.raises(DataError) as error:
        build(name, root, **arguments)
    return str(error.value)


# --- What is right --------------------------------------------------------------------------------------


def test_kaggle_cifar10(tmp_path):
    write_kaggle_cifar10(tmp_path, num_train=30, num_test=12)
    dataset = build("kaggle_cifar10", tmp_path)
    train, unlabelled = dataset.read("train"), dataset.unlabelled()
    table = read_table(tmp_path / "trainLabels.csv")[1:]
    assert [CIFAR_CLASSES[label] for label in train.labels] == [label for _, label in table]
    for index in (0, 1, 9, 29):  # 2.png, not 10.png, comes after 1.png
        stored = np.asarray(Image.open(tmp_path / "train" / f"{index + 1}.png"))
        assert np.array_equal(train.store[index], stored)
    assert unlabelled.ids == tuple(str(number) for number in range(1, 13))
    assert np.array_equal(unlabelled.open(9, 32), np.asarray(Image.open(tmp_path / "test" / "10.png")))
    assert dataset.competition == Competition("class", "id", "label", tmp_path / "sampleSubmission.csv")
    assert dataset.facts.mean is None and dataset.facts.std is None  # those of the images are taken


def test_the_course_s_sample_of_cifar10_beside_the_whole_competition_s_tables(tmp_path, capsys):
    write_kaggle_cifar10(tmp_path, num_train=30, num_test=12)
    (tmp_path / "train").rename(tmp_path / "train_tiny")
    (tmp_path / "test").rename(tmp_path / "test_tiny")
    for number in range(21, 31):
        (tmp_path / "train_tiny" / f"{number}.png").unlink()
    (tmp_path / "test_tiny" / "12.png").unlink()
    dataset = build("kaggle_cifar10", tmp_path)
    table = read_table(tmp_path / "trainLabels.csv")[1:]
    assert [CIFAR_CLASSES[label] for label in dataset.read("train").labels] == [label for _, label in table[:20]]
    assert "ids left out, they have no file in train_tiny/ (10): 21, 22" in capsys.readouterr().err
    assert dataset.unlabelled().ids == tuple(str(number) for number in range(1, 12))
    assert dataset.competition == Competition("class", "id", "label", None)


def test_dog_breeds(tmp_path):
    write_dog_breeds(tmp_path)
    dataset = build("dog_breeds", tmp_path, image_size=32, resize=40)
    train = dataset.read("train")
    assert dataset.facts.classes == BREEDS and len(train.store) == len(train) == 24
    labels = dict(read_table(tmp_path / "labels.csv")[1:])
    paths = sorted((tmp_path / "train").iterdir())
    assert [BREEDS[label] for label in train.labels] == [labels[path.stem] for path in paths]
    picture = np.array(Image.open(paths[5]))
    shown = train.store.take_centres(torch.tensor([5]))[0]
    assert np.array_equal(shown, crop_square(picture, 32, 40))
    assert dataset.unlabelled().ids == tuple(path.stem for path in sorted((tmp_path / "test").iterdir()))
    assert dataset.competition.value == "probabilities" and dataset.facts.resize == 40


@pytest.mark.parametrize("test", ["test1", "test"])
@pytest.mark.parametrize("nested", [False, True])
def test_dogs_vs_cats(tmp_path, test, nested):
    write_dogs_vs_cats(tmp_path, num_train=24, num_test=12, test=test)
    if nested:
        for path in list((tmp_path / "train").iterdir()):
            folder = tmp_path / "train" / f"{path.name[:3]}s"
            folder.mkdir(exist_ok=True)
            shutil.move(path, folder)
    dataset = build("dogs_vs_cats", tmp_path, image_size=16, resize=None)
    assert dataset.facts.classes == ("cat", "dog")
    assert dataset.read("train").labels.tolist() == [0] * 12 + [1] * 12
    assert dataset.files["train"].ids[:12] == tuple(f"cat.{number}" for number in range(12))
    assert dataset.unlabelled().ids == tuple(str(number) for number in range(1, 13))
    assert dataset.competition.value == {"test1": "number", "test": "probability"}[test]
    given = build("dogs_vs_cats", tmp_path, image_size=16, resize=None, submission="class")
    assert given.competition.value == "class"


def test_digit_recognizer(tmp_path):
    digits = write_digit_recognizer(tmp_path, num_train=30, num_test=12)
    dataset = build("digit_recognizer", tmp_path)
    train, unlabelled = dataset.read("train"), dataset.unlabelled()
    rows = np.loadtxt(tmp_path / "train.csv", delimiter=",", skiprows=1, dtype=int)
    assert train.labels.tolist() == rows[:, 0].tolist()
    assert train.store.tensor.flatten(1).tolist() == rows[:, 1:].tolist()
    assert unlabelled.ids == tuple(str(number) for number in range(1, 13))
    digit = int(digits[3])
    assert (unlabelled.open(3, 28)[2 * digit : 2 * digit + 6, 4:20] == 200).all()
    assert dataset.competition == Competition("class", "ImageId", "Label", tmp_path / "sample_submission.csv")


@pytest.mark.parametrize("with_ending", [False, True])
def test_a_table_of_your_own(tmp_path, with_ending):
    write_dogs_vs_cats(tmp_path, num_test=2)
    (tmp_path / "train").rename(tmp_path / "photos")
    (tmp_path / "sampleSubmission.csv").unlink()
    names = [path.name if with_ending else path.stem for path in (tmp_path / "photos").iterdir()]
    write_table(tmp_path / "animals.csv", ("taken", "what", "file"), [("2020", name[:3], name) for name in names])
    keys = {"table": "animals.csv", "id_column": "file", "label_column": "what", "folder": "photos"}
    dataset = build("image_csv", tmp_path, **keys, test_folder="test1", image_size=8)
    assert dataset.facts.classes == ("cat", "dog")
    assert dataset.read("train").labels.tolist() == [0] * 12 + [1] * 12
    assert dataset.unlabelled().ids == (("1.jpg", "2.jpg") if with_ending else ("1", "2"))
    assert dataset.competition == Competition("class", "file", "what")


@pytest.mark.parametrize("name", ["kaggle_cifar10", "dog_breeds", "dogs_vs_cats", "digit_recognizer"])
def test_pictures_to_predict_and_a_sample_need_not_be_there(name, tmp_path):
    writers = {
        "kaggle_cifar10": write_kaggle_cifar10,
        "dog_breeds": write_dog_breeds,
        "dogs_vs_cats": write_dogs_vs_cats,
        "digit_recognizer": write_digit_recognizer,
    }
    writers[name](tmp_path)
    for path in tmp_path.glob("test*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert build(name, tmp_path).unlabelled is None
    for path in tmp_path.glob("sample*"):
        path.unlink()
    assert build(name, tmp_path).competition.sample is None


def test_names_are_in_numeric_order_where_all_end_in_numbers():
    assert sort_numbered(["10.png", "9.png", "1.png"]) == ["1.png", "9.png", "10.png"]
    assert sort_numbered(["dog.2.jpg", "cat.10.jpg", "cat.9.jpg"]) == ["cat.9.jpg", "cat.10.jpg", "dog.2.jpg"]
    assert sort_numbered(["0c10.jpg", "0c9.jpg", "b.jpg"]) == ["0c10.jpg", "0c9.jpg", "b.jpg"]


# --- What is wrong --------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_together_and_no_picture_is_opened(tmp_path):
    write_dog_breeds(tmp_path)
    for path in (tmp_path / "train").iterdir():
        path.write_bytes(b"")  # opening one would be another error
    ids = [row[0] for row in read_table(tmp_path / "labels.csv")[1:]]
    (tmp_path / "train" / f"{ids[0]}.jpg").unlink()
    (tmp_path / "train" / "stray.jpg").touch()
    edit_table(
        tmp_path / "labels.csv",
        lambda rows: [*rows, [ids[1], "no breed"], rows[2], ["empty", ""], ["too", "many", "cells"]],
    )
    asked = [row[0] for row in read_table(tmp_path / "sample_submission.csv")[1:]]
    write_table(
        tmp_path / "sample_submission.csv",
        ("id", "beagle", "chow", "poodle", "whippet", "no breed"),
        [(name, 0, 0, 0, 0, 0) for name in ["nowhere", *asked[1:], asked[2]]],
    )
    message = find_problems("dog_breeds", tmp_path)
    for problem in (
        f"labels.csv: ids with two labels (1): {ids[1]}",
        f"labels.csv: ids that stand twice (1): {ids[2]}",
        "labels.csv: lines with an empty cell (1): 28",
        "labels.csv: lines without 2 cells (1): 29",
        f"labels.csv: ids without a file in train/ (1): {ids[0]}",
        "train/: files without an id in labels.csv (1): stray",
        "sample_submission.csv: unknown classes (1): poodle",
        "sample_submission.csv: classes that it lacks (1): affenpinscher",
        f"sample_submission.csv: ids that stand twice (1): {asked[2]}",
        "sample_submission.csv: ids without an image to predict (1): nowhere",
        f"sample_submission.csv: ids that it lacks (1): {asked[0]}",
    ):
        assert f"\n  - {problem}" in message
    assert "11 problems:" in message


def test_ten_names_and_the_count(tmp_path):
    write_kaggle_cifar10(tmp_path, num_train=30)
    for number in range(3, 31):
        (tmp_path / "train" / f"{number}.png").unlink()
    expected = "ids without a file in train/ (28): 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, and 18 more"
    assert find_problems("kaggle_cifar10", tmp_path) == f"{tmp_path}: trainLabels.csv: {expected}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "labels.csv: missing; expected a table with the columns id, breed"),
        (b"", "labels.csv: expected a table with the columns id, breed, found nothing"),
        (b"file,breed\na,b\n", "labels.csv: expected a table with the columns id, breed, found file, breed"),
        (b"\xff\xfe\x00", "labels.csv: cannot be read"),
        (b"id,breed\n", "no labelled picture to train on"),
    ],
)
def test_tables_that_are_none(tmp_path, content, expected):
    write_dog_breeds(tmp_path)
    (tmp_path / "sample_submission.csv").unlink()
    (tmp_path / "labels.csv").unlink()
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    assert expected in find_problems("dog_breeds", tmp_path)


def test_other_mistakes_of_files_and_labels(tmp_path):
    write_kaggle_cifar10(tmp_path / "cifar")
    edit_table(tmp_path / "cifar" / "trainLabels.csv", lambda rows: [[rows[0][0], "cow"], *rows[1:]])
    shutil.copy(tmp_path / "cifar" / "train" / "3.png", tmp_path / "cifar" / "train" / "3.jpg")
    message = find_problems("kaggle_cifar10", tmp_path / "cifar")
    assert "labels that are no class (1): cow; expected airplane," in message
    assert "ids with two files (1): 3" in message

    write_dogs_vs_cats(tmp_path / "pets")
    (tmp_path / "pets" / "train" / "fox.1.jpg").touch()
    assert "files whose name has no class (1): fox.1.jpg" in find_problems("dogs_vs_cats", tmp_path / "pets")

    shutil.rmtree(tmp_path / "pets" / "train")
    assert "no labelled picture to train on" in find_problems("dogs_vs_cats", tmp_path / "pets")
    assert "dataset.root: no folder" in find_problems("dogs_vs_cats", tmp_path / "nowhere")


def test_tables_of_pixels_that_are_none(tmp_path):
    write_digit_recognizer(tmp_path)
    good = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(good.replace("pixel3,", "pixel_3,", 1))
    edit_table(tmp_path / "sample_submission.csv", lambda rows: rows[:-1])
    message = find_problems("digit_recognizer", tmp_path)
    assert "train.csv: expected the 785 columns label … pixel783 in this order" in message
    assert "sample_submission.csv: ids that it lacks (1): 20" in message

    write_digit_recognizer(tmp_path)
    lines = good.splitlines()
    (tmp_path / "train.csv").write_text("\n".join([*lines[:5], lines[5].replace("200", "300", 1), *lines[6:]]))
    with pytest.raises(DataError, match=r"'300' .* at row 4, column \d+"):
        build("digit_recognizer", tmp_path).read("train")
    (tmp_path / "train.csv").write_text("\n".join([lines[0], "11" + lines[1][1:]]))
    with pytest.raises(DataError, match="labels from 0 to 9, found 11"):
        build("digit_recognizer", tmp_path).read("train")


# --- Files that cannot be decoded -----------------------------------------------------------------------


def test_broken_pictures_are_an_error_or_left_out(tmp_path, capsys):
    write_kaggle_cifar10(tmp_path, num_train=20)
    whole = build("kaggle_cifar10", tmp_path).read("train")
    (tmp_path / "train" / "7.png").write_bytes(b"")
    content = (tmp_path / "train" / "12.png").read_bytes()
    (tmp_path / "train" / "12.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"(?s)2 pictures cannot be decoded.*on_bad_image=skip.*7\.png.*12\.png"):
        build("kaggle_cifar10", tmp_path).read("train")

    left = build("kaggle_cifar10", tmp_path, on_bad_image="skip").read("train")
    assert "(2): " in (told := capsys.readouterr().err) and "7.png" in told and "12.png" in told
    kept = [index for index in range(20) if index not in (6, 11)]
    assert torch.equal(left.store.tensor, whole.store.tensor[kept]) and torch.equal(left.labels, whole.labels[kept])


def test_ids_without_a_file_are_left_out_too(tmp_path, capsys):
    write_kaggle_cifar10(tmp_path, num_train=20)
    (tmp_path / "train" / "5.png").unlink()
    assert len(build("kaggle_cifar10", tmp_path, on_bad_image="skip").read("train")) == 19
    assert "ids left out, they have no file in train/ (1): 5" in capsys.readouterr().err


def test_a_picture_has_to_be_large_enough_to_be_cut_out_of(tmp_path):
    write_dog_breeds(tmp_path)
    with pytest.raises(ConfigError, match="dataset.resize: 100 was given; expected at least dataset.image_size, 224"):
        build("dog_breeds", tmp_path, resize=100)
