"""Every odd data set is read right or refused by name; never a traceback, never something else in silence."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest

from cnnlab import distributed
from cnnlab.data import DATASETS, pictures
from cnnlab.errors import DataError
from tests.conftest import build_from
from tests.data.odd import ODD, Read, Refused

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("error:.*ransparency")
def test_odd_data_sets(tmp_path, capsys, name, seed):
    distributed._SAID.clear()
    pictures.FRAMES.clear()  # of damaged files that another test has read
    given, expected = ODD[name](tmp_path, Random(f"{name} {seed}"))
    if isinstance(expected, Refused):
        with pytest.raises(DataError) as error:
            build_from(DATASETS, given).read("train")
        assert re.search(expected.words, str(error.value))
        assert "\x1b" not in str(error.value)
        return
    dataset = build_from(DATASETS, given)
    check(dataset, expected)
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert re.search(expected.told, told) if expected.told else told == ""
    if dataset.files:
        check(build_from(DATASETS, given), expected)  # as it was packed


def check(dataset, expected: Read) -> None:
    train = dataset.read("train")
    names = train.name(range(len(train)))
    assert sorted(names) == sorted(expected.train)
    for index, name in enumerate(names):
        label, level = expected.train[name]
        assert dataset.facts.classes[train.labels[index]] == label
        assert np.abs(train.store[index][0, 0].astype(int) - level).max() <= expected.tolerance, name
    assert {part: len(dataset.read(part)) for part in dataset.parts if part != "train"} == expected.parts
    if expected.unlabelled is not None:
        assert dataset.unlabelled().ids == expected.unlabelled
    else:
        assert dataset.unlabelled is None


def test_there_are_enough_of_them():
    assert len(ODD) >= 100 and len({ODD[name] for name in ODD}) == len(ODD)
