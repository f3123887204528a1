from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.data.parts import Division, assign_folds, divide, split_off
from cnnlab.errors import DataError

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 7 + [3] * 3)


def test_parts_are_disjoint_and_whole():
    kept, taken = split_off(LABELS, 0.2, 0, "valid")
    assert torch.equal(torch.cat([kept, taken]).sort().values, torch.arange(len(LABELS)))


def test_every_class_gives_its_share_and_the_total_is_right():
    _, taken = split_off(LABELS, 0.2, 0, "valid")
    # 10, 6, 1.4 and 0.6 of each class: 18 in all, so the largest remainder is rounded up.
    assert torch.bincount(LABELS[taken]).tolist() == [10, 6, 1, 1]


def test_no_class_is_taken_whole():
    kept, _ = split_off(LABELS, 0.99, 0, "valid")
    assert torch.bincount(LABELS[kept]).min() == 1


def test_the_seed_and_the_purpose_decide():
    first = split_off(LABELS, 0.2, 0, "valid")[1]
    assert torch.equal(first, split_off(LABELS, 0.2, 0, "valid")[1])
    assert not torch.equal(first, split_off(LABELS, 0.2, 1, "valid")[1])
    assert not torch.equal(first, split_off(LABELS, 0.2, 0, "test")[1])


def test_a_class_of_one_image_is_named():
    lonely = torch.cat([LABELS, torch.tensor([4])])
    with pytest.raises(DataError, match=r"split.valid=0.2: classes with a single image \(1\): 4;"):
        split_off(lonely, 0.2, 0, "valid")
    with pytest.raises(DataError, match=r"\(1\): whippet;"):
        split_off(lonely, 0.2, 0, "valid", ["akita", "beagle", "boxer", "chow", "whippet"])


# --- Folds ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.integers(2, 7), st.integers(0, 5), st.randoms())
def test_folds_share_out_every_class_evenly(counts, num_folds, seed, random):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    random.shuffle(labels)
    labels = torch.tensor(labels)
    if len(labels) < num_folds:
        return
    folds = assign_folds(labels, num_folds, seed)
    assert folds.shape == labels.shape and set(folds.tolist()) == set(range(num_folds))
    for members in (labels >= 0, *(labels == label for label in range(len(counts)))):
        shares = torch.bincount(folds[members], minlength=num_folds)
        assert shares.max() - shares.min() <= 1
    assert torch.equal(folds, assign_folds(labels, num_folds, seed))


def test_folds_depend_on_the_seed():
    assert not torch.equal(assign_folds(LABELS, 5, 0), assign_folds(LABELS, 5, 1))


def test_numbers_are_shared_out_too():
    folds = assign_folds(torch.linspace(0, 1, 11), 3, 0)
    assert sorted(torch.bincount(folds).tolist()) == [3, 4, 4]


def test_folds_that_cannot_be_made_are_refused():
    with pytest.raises(DataError, match=r"folds=3: classes with a single image \(1\): chow"):
        assign_folds(torch.tensor([0, 0, 0, 1]), 3, 0, ["beagle", "chow"])
    with pytest.raises(DataError, match="folds=5: there are 4 images"):
        assign_folds(torch.tensor([0, 0, 1, 1]), 5, 0)


# --- Parts ----------------------------------------------------------------------------------------------


def division(**given) -> Division:
    return Division(**{"valid": 0.1, "test": 0.2, "seed": 0, **given})


def test_what_a_dataset_lacks_is_split_off_its_training_images():
    parts = divide(division(), {"train": LABELS}, "abcd")
    assert {name: (part.source, len(part.indices)) for name, part in parts.items()} == {
        "train": ("train", 65),
        "valid": ("train", 7),
        "test": ("train", 18),
    }
    together = torch.cat([part.indices for part in parts.values()])
    assert torch.equal(together.sort().values, torch.arange(len(LABELS)))
    assert torch.equal(parts["test"].indices, split_off(LABELS, 0.2, 0, "test")[1])


def test_parts_of_its_own_stay_whole():
    parts = divide(division(), {"train": LABELS, "valid": LABELS[:5], "test": LABELS[:7]}, "abcd")
    assert {name: part.source for name, part in parts.items()} == {"train": "train", "valid": "valid", "test": "test"}
    assert [len(parts[name].indices) for name in ("train", "valid", "test")] == [90, 5, 7]


def test_a_fold_is_validated_on_and_the_test_images_are_the_same_for_all():
    folds = [divide(division(num_folds=3, fold=fold), {"train": LABELS}, "abcd") for fold in range(3)]
    assert all(torch.equal(parts["test"].indices, folds[0]["test"].indices) for parts in folds)
    validated = torch.cat([parts["valid"].indices for parts in folds])
    for parts in folds:
        pool = torch.cat([parts["train"].indices, parts["valid"].indices])
        assert torch.equal(pool.sort().values, validated.sort().values)


def test_few_images_are_trained_and_validated_on():
    parts = divide(division(num_kept=8), {"train": LABELS, "test": LABELS}, "abcd")
    assert parts.keys() == {"train", "valid"} and len(parts["train"].indices) == 8
    assert torch.equal(parts["train"].indices, parts["valid"].indices)


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(DataError, match=r"split.valid=0.01 of 10 images leaves 10 to train on and 0 for 'valid'"):
        divide(division(valid=0.01, test=0.0), {"train": torch.arange(10) % 2}, "ab")
