"""conf/ and the registries say the same, and every file composes, passes the checks and builds."""

from __future__ import annotations

import pytest
import yaml

from cnnlab.experiment import REGISTRIES, read_config
from cnnlab.train import CONF
from tests.conftest import compose_tree

FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
BUILDERS = ("model", "dataset", "optimizer", "schedule", "loss")
PICTURES = ("image_folder", "image_csv", "kaggle_cifar10", "dog_breeds", "dogs_vs_cats", "digit_recognizer")
NEEDED = {f"dataset/{name}": ["dataset.root=pictures"] for name in PICTURES}  # what a user has to give


def as_yaml(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default


@pytest.mark.parametrize("file", [file for file in FILES if "/" in file])
def test_every_file_composes_and_passes_the_checks(file):
    group, _, choice = file.partition("/")
    read_config(compose_tree(f"{group}={choice}", *NEEDED.get(file, [])))


@pytest.mark.parametrize("group", BUILDERS)
def test_every_builder_has_a_file_and_every_file_a_builder(group):
    assert {file.partition("/")[2] for file in FILES if file.startswith(f"{group}/")} == set(REGISTRIES[group])


@pytest.mark.parametrize("file", [file for file in FILES if file.partition("/")[0] in BUILDERS])
def test_a_file_holds_the_name_and_every_argument_with_its_default(file):
    group, _, name = file.partition("/")
    given = yaml.safe_load((CONF / f"{file}.yaml").read_text())
    expected = {"name": name}
    for key, parameter in REGISTRIES[group].arguments(name).items():
        expected[key] = "???" if parameter.default is parameter.empty else as_yaml(parameter.default)
    if group == "model":
        assert given.pop("init") in {None, *REGISTRIES["model.init"]}
    assert given == expected


def test_every_augmentation_stands_in_some_file_with_its_defaults():
    shown: dict = {}
    for path in (CONF / "augment").glob("*.yaml"):
        shown |= yaml.safe_load(path.read_text())
    defaults = {
        name: {key: as_yaml(p.default) for key, p in REGISTRIES[stage].arguments(name).items()}
        for stage in ("crop", "augment", "mix")
        for name in REGISTRIES[stage]
    }
    assert shown == defaults


def test_no_mix_has_the_name_of_an_augmentation():
    assert not set(REGISTRIES["augment"]) & set(REGISTRIES["mix"])


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_is(path):
    first, *_ = [line for line in path.read_text().splitlines() if "@package" not in line]
    assert first.startswith("# ")
