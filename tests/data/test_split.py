from __future__ import annotations

import pytest
import torch

from cnnlab.data.split import split_off
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
