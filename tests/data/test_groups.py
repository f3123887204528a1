"""Groups and near-twins stay together, and parts are nonetheless about as large and as mixed as was asked for."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.data.dataset import ImageSet
from cnnlab.data.groups import join_twins
from cnnlab.data.parts import Division, assign_folds, divide, split_off
from cnnlab.errors import ConfigError, DataError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.dataset import build_dataset, read_parts
from tests.conftest import compose_tree
from tests.data.kaggle import draw_stripes, save, write_table
from tests.data.test_twins import draw_pictures

PATIENTS = st.lists(st.integers(1, 12), min_size=8, max_size=40)  # how many images each has


@given(PATIENTS, st.integers(2, 4), st.integers(0, 3), st.floats(0.05, 0.5), st.integers(2, 5))
def test_no_group_is_in_two_parts(sizes, num_classes, seed, fraction, num_folds):
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = torch.randint(num_classes, (len(groups),), generator=torch.Generator().manual_seed(seed))
    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    groups, labels = groups[shuffled], labels[shuffled]
    try:
        kept, taken = split_off(labels, fraction, seed, "valid", groups=groups)
        folds = assign_folds(labels, num_folds, seed, groups=groups)
        parts = divide(Division(fraction, 0.2, seed), {"train": labels}, "abcd", groups)
    except DataError:  # a class of one image or group, a part without an image
        return
    assert sorted([*kept.tolist(), *taken.tolist()]) == list(range(len(groups)))
    assert not {*groups[kept].tolist()} & {*groups[taken].tolist()}
    assert {*labels[kept].tolist()} == {*labels.tolist()}
    for group in groups.unique():
        assert len(folds[groups == group].unique()) == 1
    found = [{*groups[part.indices].tolist()} for part in parts.values()]
    assert sum(map(len, found)) == len(set.union(*found))


@given(PATIENTS, st.integers(0, 3), st.floats(0.1, 0.5))
def test_a_share_is_missed_by_less_than_a_group(sizes, seed, fraction):
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    _, taken = split_off(torch.zeros(len(groups), dtype=torch.long), fraction, seed, "valid", groups=groups)
    assert abs(len(taken) - fraction * len(groups)) <= max(sizes)


def test_a_share_is_taken_of_rare_classes_too_even_of_those_in_the_largest_groups():
    groups = torch.arange(90).repeat_interleave(6)
    labels = torch.arange(540) // 54
    rare = torch.arange(25)  # one more image in each of these, of an eleventh class
    groups, labels = torch.cat([groups, rare]), torch.cat([labels, torch.full((25,), 10)])
    for seed in range(5):
        _, taken = split_off(labels, 0.2, seed, "test", groups=groups)
        shares = torch.bincount(labels[taken], minlength=11) / torch.bincount(labels)
        assert (shares - 0.2).abs().max() < 0.05


def test_folds_are_as_even_as_scikit_learns():
    """Patients of one to thirty images, each with a leaning to some classes: the largest share that is off."""
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(8):
        sizes = rng.integers(1, 30, 60)
        groups = np.repeat(np.arange(60), sizes)
        labels = np.concatenate([rng.choice(4, size, p=rng.dirichlet([0.5] * 4)) for size in sizes])
        totals = np.bincount(labels)
        folds = assign_folds(torch.from_numpy(labels), 5, seed, groups=torch.from_numpy(groups)).numpy()
        ours.append(max(abs(np.bincount(labels[folds == fold], minlength=4) / totals - 0.2).max() for fold in range(5)))
        split = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
        theirs.append(max(abs(np.bincount(labels[held], minlength=4) / totals - 0.2).max() for _, held in split))
    assert np.mean(ours) < 0.05
    assert np.mean(ours) <= np.mean(theirs) * 1.1


def test_a_class_in_one_group_is_trained_on_and_cannot_be_folded():
    groups, labels = torch.arange(60) // 3, torch.arange(60) % 2
    labels[:3] = 2
    for seed in range(10):
        _, taken = split_off(labels, 0.5, seed, "valid", groups=groups)
        assert not (labels[taken] == 2).any()
    with pytest.raises(DataError, match=r"folds=4: classes with a single group \(1\): c;"):
        assign_folds(labels, 4, 0, "abc", groups)
    with pytest.raises(DataError, match="there are 2 groups to train on; expected as many as folds"):
        assign_folds(labels, 4, 0, "abc", groups % 2)


# --- As they are given ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Forty pictures of two classes out of ten films, with a table that tells the film."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    rows = [(f"film{number % 10}_{number:03}", "ab"[number // 10 % 2], f"scene {number % 10}") for number in range(40)]
    for name, label, _ in rows:
        save(folder / "train" / f"{name}.png", draw_stripes("ab".index(label), 2, 16, 16, rng))
    write_table(folder / "labels.csv", ("id", "label", "film"), rows)
    return folder


def configure(films, *overrides):
    keys = [f"dataset.root={films}", "dataset.image_size=12", "engine.device=cpu"]
    return parse(compose_tree("dataset=image_csv", *keys, *overrides))


@pytest.mark.parametrize("groups", ["film", r"'^(film\d+)_'"])
def test_by_a_column_or_by_a_pattern_of_ids(films, groups, tmp_path, capsys):
    config = configure(films, f"split.groups={groups}", "split.valid=0.2", "split.test=0.3")
    parts = read_parts(config, build_dataset(config), torch.device("cpu"))
    films_of = {
        part: {name.partition("_")[0] for name in batches.images.name(batches.indices.tolist())}
        for part, batches in parts.items()
    }
    assert [len(films_of[part]) for part in ("train", "valid", "test")] == [6, 1, 3]
    assert len(set.union(*films_of.values())) == 10
    keys = [f"dataset.root={films}", f"split.groups={groups}", "split.valid=0.2", "split.test=0.3"]
    tree = tmp_path / "tree"
    assert main(["prepare", "dataset=image_csv", *keys, "--layout", "folders", "--output", str(tree)]) == 0
    laid_out = {path.name.partition("_")[0] for path in (tree / "valid").rglob("*.png")}
    assert laid_out == films_of["valid"]


@pytest.mark.parametrize(
    ("groups", "error", "told"),
    [
        ("fims", ConfigError, "split.groups: no column 'fims'; did you mean film"),
        ("'(film'", ConfigError, "split.groups: '\\(film' was given, which is no regular expression"),
        ("'^(film[0-4])'", DataError, r"ids that \^\(film\[0-4\]\) does not match \(20\): film5_005, "),
    ],
)
def test_what_names_no_group_is_told(films, groups, error, told):
    with pytest.raises(error, match=told):
        assemble(configure(films, f"split.groups={groups}"))


def test_images_without_names_have_no_groups():
    with pytest.raises(ConfigError, match="split.groups: patient was given; expected null: this dataset is not made"):
        assemble(parse(compose_tree("split.groups=patient")))


# --- Near-twins -------------------------------------------------------------------------------------------


def encode(picture: Image.Image, quality: int) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def test_near_twins_are_a_group_and_join_those_there_are():
    pictures = draw_pictures(30)
    pixels = torch.from_numpy(np.stack([encode(picture, quality) for quality in (90, 50) for picture in pictures]))
    images = ImageSet.of(pixels, torch.zeros(60, dtype=torch.long))
    assert torch.equal(join_twins(None, images), torch.arange(30).repeat(2))
    patients = torch.cat([torch.arange(30) // 3, 10 + torch.arange(30)])  # three pictures each, then one each
    assert torch.equal(join_twins(patients, images), (torch.arange(30) // 3).repeat(2))


def test_twins_in_a_dataset_are_kept_together(tmp_path):
    for number, picture in enumerate(draw_pictures(24)):
        for copy, quality in enumerate((95, 60)):
            path = tmp_path / "ab"[number % 2] / f"{number}_{copy}.jpg"
            path.parent.mkdir(exist_ok=True)
            picture.save(path, quality=quality)
    parts = {}
    for keep in ("false", "true"):
        keys = [f"dataset.root={tmp_path}", "dataset.image_size=48", "engine.device=cpu", f"split.keep_twins={keep}"]
        config = parse(compose_tree("dataset=image_folder", *keys))
        found = read_parts(config, build_dataset(config), torch.device("cpu"))
        parts[keep] = [
            {name.rpartition("/")[2].partition("_")[0] for name in batches.images.name(batches.indices.tolist())}
            for batches in found.values()
        ]
    assert sum(map(len, parts["true"])) == 24 < sum(map(len, parts["false"]))


def test_the_table_is_as_it_was_for_those_who_ask_for_nothing(films):
    """Other columns are read beside, and split nothing."""
    config = configure(films)
    parts = read_parts(config, build_dataset(config), torch.device("cpu"))
    with (films / "labels.csv").open(newline="") as file:
        films_by_id = {row["id"]: row["film"] for row in csv.DictReader(file)}
    files = parts["train"].images.files
    assert files.columns == {"film": tuple(films_by_id[name] for name in files.ids)}
    labels = parts["train"].images.labels
    assert torch.equal(parts["test"].indices, split_off(labels, 0.2, 0, "test")[1])
