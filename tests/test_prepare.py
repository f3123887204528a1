"""`cnnlab prepare`: tells what training would find, and lays out what training would train on."""

from __future__ import annotations

import csv
import shutil
from collections import Counter

import pytest
import torch
from PIL import Image

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.errors import DataError
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.runs.start import start
from tests.conftest import compose_tree
from tests.data.kaggle import (
    write_digit_recognizer,
    write_dog_breeds,
    write_dogs_vs_cats,
    write_kaggle_cifar10,
    write_table,
)


def prepare(name: str, root, *rest: str) -> int:
    return main(["prepare", f"dataset={name}", f"dataset.root={root}", *rest])


def read_images(*overrides: str) -> dict[str, set[tuple[bytes, str]]]:
    """The images of each part with their classes, as training is handed them."""
    config = parse(compose_tree("engine.device=cpu", *overrides))
    dataset = build_dataset(config)
    found = {}
    for part, batches in read_parts(config, dataset, torch.device("cpu")).items():
        images = batches.images.store.take_centres(batches.indices)
        labels = batches.images.labels[batches.indices]
        pairs = zip(images, labels, strict=True)
        found[part] = {(image.numpy().tobytes(), dataset.facts.classes[label]) for image, label in pairs}
    return found


def test_a_sound_set_is_shown_part_by_part(tmp_path, capsys):
    write_dog_breeds(tmp_path, num_train=40)
    assert prepare("dog_breeds", tmp_path, "split.test=0") == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["class", "train", "valid"]
    assert [line[1:] for line in lines[1:5]] == [["9", "1"]] * 4
    assert lines[5] == ["all", "36", "4"]
    assert "dog_breeds: 40 pictures of 4 classes, 8 to predict" in out


def test_everything_that_is_wrong_is_listed_at_once(tmp_path, capsys):
    write_dogs_vs_cats(tmp_path)
    train = tmp_path / "train"
    (train / "cat.0.jpg").write_bytes(b"")
    (train / "cat.1.jpg").write_text("no picture")
    shutil.copy(train / "cat.2.jpg", train / "cat.3.jpg")
    shutil.copy(train / "cat.4.jpg", train / "dog.4.jpg")
    shutil.copy(train / "dog.5.jpg", tmp_path / "test1" / "5.jpg")
    assert prepare("dogs_vs_cats", tmp_path, "--layout", "folders", "--output", str(tmp_path / "tree")) == 3
    out = capsys.readouterr().out
    for told in (
        f"empty files (1):\n  {train}/cat.0.jpg\n",
        f"files that cannot be decoded (1):\n  {train}/cat.1.jpg: ",
        f"different labels (1):\n  {train}/cat.4.jpg (cat) = {train}/dog.4.jpg (dog)\n",
        f"different parts (1):\n  {train}/dog.5.jpg (dog) = {tmp_path}/test1/5.jpg\n",
        f"more than once (1):\n  {train}/cat.2.jpg (cat) = {train}/cat.3.jpg (cat)\n",
        "tree: not written",
    ):
        assert told in out
    assert not (tmp_path / "tree").exists()


def test_a_picture_to_predict_that_is_there_twice_is_a_remark(tmp_path, capsys):
    write_dogs_vs_cats(tmp_path)
    shutil.copy(tmp_path / "test1" / "1.jpg", tmp_path / "test1" / "2.jpg")
    assert prepare("dogs_vs_cats", tmp_path) == 0
    assert "remark: the same picture to predict more than once (1):" in capsys.readouterr().out
    assert prepare("dogs_vs_cats", tmp_path, "--strict") == 3


def test_wrong_ids_and_broken_files_are_told_together(tmp_path, capsys):
    write_dog_breeds(tmp_path)
    paths = sorted((tmp_path / "train").iterdir())
    paths[0].write_bytes(b"")
    paths[1].unlink()
    assert prepare("dog_breeds", tmp_path) == 3
    out = capsys.readouterr().out
    assert f"ids without a file in train/ (1): {paths[1].stem}" in out and f"empty files (1):\n  {paths[0]}" in out


def test_what_is_skipped_is_told_and_is_not_wrong(tmp_path, capsys):
    write_kaggle_cifar10(tmp_path, num_train=60)
    (tmp_path / "train" / "3.png").write_bytes(b"")
    tree = ["--layout", "folders", "--output", str(tmp_path / "tree")]
    assert prepare("kaggle_cifar10", tmp_path, "dataset.on_bad_image=skip", *tree) == 0
    assert f"left out: empty files (1):\n  {tmp_path}/train/3.png" in capsys.readouterr().out
    given = read_images("dataset=kaggle_cifar10", f"dataset.root={tmp_path}", "dataset.on_bad_image=skip")
    laid_out = read_images("dataset=image_folder", f"dataset.root={tmp_path / 'tree'}", "dataset.image_size=32")
    assert given == laid_out


@pytest.mark.parametrize("shares", [("split.test=0",), ("split.valid=0.2", "split.test=0.2", "split.seed=3")])
def test_the_tree_has_the_split_that_training_uses(tmp_path, shares, capsys):
    write_dog_breeds(tmp_path, num_train=40)
    tree = ["--layout", "folders", "--output", str(tmp_path / "tree")]
    assert prepare("dog_breeds", tmp_path, *shares, *tree) == 0
    size = ["dataset.image_size=32", "dataset.resize=40"]
    given = read_images("dataset=dog_breeds", f"dataset.root={tmp_path}", *size, *shares)
    laid_out = read_images("dataset=image_folder", f"dataset.root={tmp_path / 'tree'}", *size, "split.test=0")
    assert given == laid_out and given["valid"]
    both = {path.name for path in (tmp_path / "tree" / "train_valid").rglob("*.jpg")}
    assert both == {p.name for part in ("train", "valid") for p in (tmp_path / "tree" / part).rglob("*.jpg")}
    assert len(list((tmp_path / "tree" / "test" / "unknown").iterdir())) == 8
    capsys.readouterr()
    assert prepare("dog_breeds", tmp_path, *shares, *tree) == 0
    assert "there already, nothing to do" in capsys.readouterr().out


def test_packed_pixels_are_verified_and_mended_on_request(tmp_path, capsys):
    write_dog_breeds(tmp_path)  # which has a mean of its own: training reads no pixel before it needs it
    assert prepare("dog_breeds", tmp_path) == 0
    (path,) = (tmp_path / ".cnnlab").iterdir()
    content, last = path.read_bytes(), sorted((tmp_path / "train").iterdir())[-1].name
    path.write_bytes(content[:-7] + bytes([content[-7] ^ 128]) + content[-6:])
    capsys.readouterr()
    assert prepare("dog_breeds", tmp_path) == 0
    assert capsys.readouterr().err == "" and path.read_bytes() != content
    assert prepare("dog_breeds", tmp_path, "--verify") == 0
    told = capsys.readouterr()
    assert told.err == f"{path}: damaged, pixels of {last} have changed; it is made anew\n"
    assert "packed pictures: every checksum is right" in told.out and path.read_bytes() == content


def test_names_with_escape_codes_only_appear(tmp_path, capsys):
    for name in ("\x1b[31mcat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (number, len(name), 0)).save(tmp_path / name / f"\x1b[2J{number}.png")
    (tmp_path / "dog" / "\x1b]0;title\x07.png").write_bytes(b"")
    assert prepare("image_folder", tmp_path, "split.test=0", "split.valid=0.3") == 3
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and r"\x1b[31mcat" in told.out and r"\x1b]0;title\x07.png" in told.out


def test_a_class_that_cannot_be_split_is_named_before_a_picture_is_opened_or_a_run_begun(tmp_path, capsys):
    write_dog_breeds(tmp_path / "dogs", num_train=5)
    for path in (tmp_path / "dogs" / "train").iterdir():
        path.write_bytes(b"")
    overrides = ["dataset=dog_breeds", f"dataset.root={tmp_path / 'dogs'}", f"output_dir={tmp_path / 'outputs'}"]
    expected = "classes with a single image (3): beagle, chow, whippet;"
    with pytest.raises(DataError) as error:
        start(parse(compose_tree("model=resnet18", *overrides)), [])
    assert expected in str(error.value) and not (tmp_path / "outputs").exists()
    assert main(["prepare", *overrides]) == 3
    assert expected in capsys.readouterr().out


def test_datasets_that_are_not_files(tmp_path, capsys):
    assert main(["prepare", "dataset=digits"]) == 0
    out = capsys.readouterr().out
    assert "digits: 1,797 images, 0 to predict\nnot made of picture files" in out
    assert "all    1,294    144   359" in out
    assert main(["prepare", "dataset=digits", "--layout", "folders", "--output", str(tmp_path)]) == 2
    assert main(["prepare", "dataset=digits", "--layout", "folders"]) == 2
    write_table(tmp_path / "train.csv", ("label", "pixel0"), [])
    assert main(["prepare", "dataset=digit_recognizer", f"dataset.root={tmp_path}"]) == 3
    assert "expected the 785 columns" in capsys.readouterr().out
    assert main(["prepare", "dataset=dog_breeds", f"dataset.root={tmp_path / 'nowhere'}"]) == 3


def test_pixels_in_tables_are_counted_by_class(tmp_path, capsys):
    write_digit_recognizer(tmp_path, num_train=100, num_test=7)
    assert prepare("digit_recognizer", tmp_path, "split.test=0", "split.valid=0.3") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    with (tmp_path / "train.csv").open(newline="") as file:
        there = Counter(row["label"] for row in csv.DictReader(file))
    assert {name: int(train) + int(valid) for name, train, valid in lines[1:11]} == there
    assert lines[11][0] == "all" and " ".join(lines[13]) == "digit_recognizer: 100 images, 7 to predict"
