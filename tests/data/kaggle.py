"""Small trees in the shape of Kaggle's downloads: the same names, columns and folders, made-up pictures.

A class is a colour and a number of stripes, so that a network can learn it in some steps. Each writer returns
the classes of the test images in the order of their ids, which Kaggle keeps to itself.
"""

from __future__ import annotations

import colorsys
import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlab.data.cifar import CLASSES as CIFAR_CLASSES

BREEDS = ("affenpinscher", "beagle", "chow", "whippet")  # four of the 120


def write_kaggle_cifar10(folder: Path, num_train: int = 40, num_test: int = 20) -> list[str]:
    """train/1.png …, trainLabels.csv, test/1.png …, sampleSubmission.csv; 32×32."""
    rng = np.random.default_rng(0)
    labels = {part: draw_labels(num, 10, rng) for part, num in (("train", num_train), ("test", num_test))}
    for part, numbers in labels.items():
        for number, label in enumerate(numbers, start=1):
            save(folder / part / f"{number}.png", draw_stripes(label, 10, 32, 32, rng))
    names = {part: [CIFAR_CLASSES[label] for label in numbers] for part, numbers in labels.items()}
    write_table(folder / "trainLabels.csv", ("id", "label"), enumerate(names["train"], start=1))
    sample = ((number, "cat") for number in range(1, num_test + 1))
    write_table(folder / "sampleSubmission.csv", ("id", "label"), sample)
    return names["test"]


def write_dog_breeds(
    folder: Path,
    num_train: int = 24,
    num_test: int = 8,
    breeds: Sequence[str] = BREEDS,
    sides: tuple[int, int] = (60, 120),
) -> list[str]:
    """train/<id>.jpg, labels.csv, test/<id>.jpg, sample_submission.csv; sides of `sides` pixels, each its own."""
    rng = np.random.default_rng(1)
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for part, num in (("train", num_train), ("test", num_test)):
        for number in range(num):
            name = hashlib.md5(f"{part} {number}".encode()).hexdigest()
            label = number % len(breeds)
            save(folder / part / f"{name}.jpg", draw_stripes(label, len(breeds), *draw_sides(sides, rng), rng))
            rows[part].append((name, breeds[label]))
        rows[part].sort()
    write_table(folder / "labels.csv", ("id", "breed"), rows["train"])
    columns = sorted(breeds)
    sample = ((name, *[1 / len(columns)] * len(columns)) for name, _ in rows["test"])
    write_table(folder / "sample_submission.csv", ("id", *columns), sample)
    return [breed for _, breed in rows["test"]]


def write_dogs_vs_cats(
    folder: Path, num_train: int = 24, num_test: int = 12, test: str = "test1", sides: tuple[int, int] = (60, 120)
) -> list[str]:
    """train/cat.0.jpg …, train/dog.0.jpg …, test1/1.jpg …, sampleSubmission.csv; as many cats as dogs."""
    rng = np.random.default_rng(2)
    for number in range(num_train):
        name = ("cat", "dog")[number % 2]
        save(folder / "train" / f"{name}.{number // 2}.jpg", draw_stripes(number % 2, 2, *draw_sides(sides, rng), rng))
    asked = draw_labels(num_test, 2, rng)
    for number, label in enumerate(asked, start=1):
        save(folder / test / f"{number}.jpg", draw_stripes(label, 2, *draw_sides(sides, rng), rng))
    write_table(folder / "sampleSubmission.csv", ("id", "label"), ((number, 0) for number in range(1, num_test + 1)))
    return [("cat", "dog")[label] for label in asked]


def write_digit_recognizer(folder: Path, num_train: int = 40, num_test: int = 20) -> list[str]:
    """train.csv and test.csv with 784 columns of pixels, sample_submission.csv; a digit is a bar at its height."""
    rng = np.random.default_rng(3)
    pixels = [f"pixel{index}" for index in range(784)]
    labels = {part: draw_labels(num, 10, rng) for part, num in (("train", num_train), ("test", num_test))}
    rows = {}
    for part, digits in labels.items():
        images = rng.integers(0, 60, (len(digits), 28, 28))
        for image, digit in zip(images, digits, strict=True):
            image[2 * digit : 2 * digit + 6, 4:20] = 200
        rows[part] = images.reshape(-1, 784).tolist()
    train = ([label, *row] for label, row in zip(labels["train"], rows["train"], strict=True))
    write_table(folder / "train.csv", ("label", *pixels), train)
    write_table(folder / "test.csv", pixels, rows["test"])
    sample = ((number, 0) for number in range(1, num_test + 1))
    write_table(folder / "sample_submission.csv", ("ImageId", "Label"), sample)
    return [str(digit) for digit in labels["test"]]


def draw_labels(num: int, num_classes: int, rng: np.random.Generator) -> list[int]:
    """Each class as often as the others, mixed."""
    return rng.permutation(np.arange(num) % num_classes).tolist()


def draw_stripes(label: int, num_classes: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (height, width, 3): `label` + 1 stripes in the class's colour, at a random place, with some noise."""
    colour = np.array(colorsys.hsv_to_rgb(label / num_classes, 0.8, 1.0))
    waves = 0.7 + 0.3 * np.cos(2 * np.pi * ((label + 1) * np.arange(width) / width + rng.random()))
    image = 200 * colour * waves[None, :, None] + rng.normal(0, 15, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8)


def draw_sides(sides: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    height, width = rng.integers(*sides, size=2, endpoint=True).tolist()
    return height, width


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
