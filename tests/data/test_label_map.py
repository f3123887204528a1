"""Classes called otherwise, made one and left out: of folders, tables and pixels."""

from __future__ import annotations

import csv

import pytest
import torch

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.dataset import build_dataset
from cnnlab.signature import as_yaml
from tests.conftest import compose_tree, small_config
from tests.data.kaggle import BREEDS, write_dog_breeds


@pytest.fixture(scope="module")
def breeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("breeds")
    write_dog_breeds(folder / "table", num_train=40)
    (folder / "table" / "sample_submission.csv").unlink()
    with (folder / "table" / "labels.csv").open(newline="") as file:
        labels = {row["id"]: row["breed"] for row in csv.DictReader(file)}
    for name, breed in labels.items():
        (folder / "folders" / breed).mkdir(parents=True, exist_ok=True)
        (folder / "folders" / breed / f"{name}.jpg").symlink_to(folder / "table" / "train" / f"{name}.jpg")
    return folder, labels


MAPPING = "{affenpinscher: small, whippet: null, chow: small}"


@pytest.mark.parametrize("kind", ["dog_breeds", "image_folder"])
def test_in_tables_and_in_folders(breeds, kind, capsys):
    folder, labels = breeds
    keys = [f"dataset={kind}", f"dataset.root={folder / ('table' if kind == 'dog_breeds' else 'folders')}"]
    keys += ["dataset.image_size=12", "dataset.resize=null", f"++dataset.label_map={MAPPING}"]
    config = parse(compose_tree(*keys))
    assert parse(as_yaml(config)) == config  # a run's config.yaml says the same
    dataset = build_dataset(config)
    assert dataset.facts.classes == ("small", "beagle")
    images = dataset.read("train")
    names = [name.rpartition("/")[2].removesuffix(".jpg") for name in images.name(range(len(images)))]
    expected = {
        name: "beagle" if breed == "beagle" else "small" for name, breed in labels.items() if breed != "whippet"
    }
    told = {name: dataset.facts.classes[label] for name, label in zip(names, images.labels.tolist(), strict=True)}
    assert told == expected and len(images.store) == len(told)
    assert images.files == dataset.files["train"]
    plain = build_dataset(parse(compose_tree(*keys[:-1]))).read("train")
    by_path = {path: index for index, path in enumerate(plain.files.paths)}
    for index in (0, len(images) - 1):
        assert (images.store[index] == plain.store[by_path[images.files.paths[index]]]).all()
    assert main(["prepare", *keys, "split.test=0"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:4] == [["small", "18", "2"], ["beagle", "9", "1"], ["all", "27", "3"]]


def test_digits_become_even_and_odd_and_two_classes_may_be_binary(tmp_path):
    mapping = "{" + ",".join(f"{digit}: {('even', 'odd')[digit % 2]}" for digit in range(9)) + ", 9: null}"
    config = small_config(tmp_path, f"++dataset.label_map={mapping}", "dataset.task=binary", "loss=bce_with_logits")
    dataset = assemble(config).dataset
    assert dataset.facts.classes == ("even", "odd") and dataset.facts.num_outputs == 1
    digits = build_dataset(small_config(tmp_path)).read("train").labels
    assert torch.equal(dataset.read("train").labels, digits[digits < 9] % 2)


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ("{beegle: dog}", "dataset.label_map.beegle: no class 'beegle'; did you mean beagle"),
        ("{" + ", ".join(f"{breed}: dog" for breed in BREEDS) + "}", "has 1 class; expected two or more"),
    ],
)
def test_what_maps_nothing_is_told(breeds, mapping, told):
    keys = ["dataset=dog_breeds", f"dataset.root={breeds[0] / 'table'}", f"++dataset.label_map={mapping}"]
    with pytest.raises(Exception, match=told):
        build_dataset(parse(compose_tree(*keys)))


def test_numbers_have_no_classes_to_map():
    with pytest.raises(ConfigError, match="dataset.label_map: .* expected {}: regression has no classes to map"):
        build_dataset(parse(compose_tree("experiment=linear_regression", "++dataset.label_map={y: z}")))
