"""conf/ and the registries say the same, and every file composes, passes the checks and builds."""

from __future__ import annotations

import pytest
import yaml

from cnnlab.composition import CONF
from cnnlab.config import REGISTRIES, STAGES, parse
from cnnlab.registry import Registry
from cnnlab.signature import as_yaml
from tests.conftest import compose_tree

FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
BUILDERS = ("model", "dataset", "optimizer", "schedule", "loss", "average")
PICTURES = ("image_folder", "image_csv", "kaggle_cifar10", "dog_breeds", "dogs_vs_cats", "digit_recognizer")
NEEDED = {f"dataset/{name}": ["dataset.root=pictures"] for name in PICTURES}  # what a user has to give
RECIPES = ("cifar10_resnet18", "dog_breeds_resnet34", "dogs_vs_cats")
NEEDED |= {f"experiment/{recipe}": ["dataset.root=pictures"] for recipe in RECIPES}


@pytest.mark.parametrize("file", [file for file in FILES if "/" in file])
def test_every_file_composes_and_passes_the_checks(file):
    group, _, choice = file.partition("/")
    parse(compose_tree(f"{group}={choice}", *NEEDED.get(file, [])))


@pytest.mark.parametrize("group", BUILDERS)
def test_every_builder_has_a_file_and_every_file_a_builder(group):
    assert {file.partition("/")[2] for file in FILES if file.startswith(f"{group}/")} == set(REGISTRIES[group])


def defaults(registry: Registry, name: str) -> dict:
    """A builder's arguments as its YAML has to show them: "???" is what a user has to give."""
    parameters = registry.arguments(name)
    return {key: "???" if p.default is p.empty else as_yaml(p.default) for key, p in parameters.items()}


def test_files_hold_the_name_and_every_argument_with_its_default():
    """Of every builder, and of an augmentation in some file; a few shared keys may stand there too."""
    for file in FILES:
        group, _, name = file.partition("/")
        if group in BUILDERS:
            given = yaml.safe_load((CONF / f"{file}.yaml").read_text())
            own = {key: value for key, value in given.items() if key not in REGISTRIES[group].shared_arguments()}
            assert own == {"name": name, **defaults(REGISTRIES[group], name)}, file
    shown: dict = {}
    for path in (CONF / "augment").glob("*.yaml"):
        shown |= yaml.safe_load(path.read_text())
    assert shown == {name: defaults(registry, name) for registry in STAGES.values() for name in registry}


def test_the_keys_that_all_entries_share_stand_with_their_defaults():
    given = yaml.safe_load((CONF / "train.yaml").read_text())
    for group, registry in REGISTRIES.items():
        assert given.get(group, {}) == as_yaml(registry._shared() if registry._shared else {}), group


def test_no_crop_augmentation_or_mix_has_the_name_of_another():
    names = [name for registry in STAGES.values() for name in registry]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_is(path):
    first, *_ = [line for line in path.read_text().splitlines() if "@package" not in line]
    assert first.startswith("# ")
