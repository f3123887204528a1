"""The two kinds of store beside each other, on the same squares: whole in memory, and packed in a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlab.data import store as store_module
from cnnlab.data.dataset import ImageSet
from cnnlab.data.store import Packed, Resident, Store

NUM, SIDE = 20, 12
SQUARES = torch.randint(0, 256, (NUM, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CHOSEN = torch.tensor([7, 0, 19, 7])
BOXES = torch.tensor([[0, 0, 12, 12], [3, 1, 5, 9], [11, 11, 1, 1], [2, 0, 10, 4]])


def pack(squares: torch.Tensor) -> Packed:
    offsets = torch.arange(len(squares)) * squares[0].numel()
    spots = torch.stack([offsets, *torch.tensor([[SIDE, SIDE, 0]] * len(squares)).T], 1).numpy()
    checksums = squares.flatten(1).long().sum(1).numpy()
    return Packed([squares.numpy().ravel()], spots, checksums, channels=3, image_size=SIDE)


KINDS = {"resident": Resident, "packed": pack}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def assert_holds(store: Store, expected: torch.Tensor) -> None:
    assert len(store) == len(expected) and (store.image_size, store.channels) == (SIDE, 3) and store.holds_pixels
    assert all(np.array_equal(store[index], expected[index]) for index in range(len(expected)))
    everything = torch.arange(len(expected))
    assert torch.equal(store.take_centres(everything), expected)
    assert torch.equal(store.take_centres(everything, num_threads=3), expected)
    assert store.sizes(everything).tolist() == [[SIDE, SIDE]] * len(expected)


def test_images_by_index(kind):
    assert_holds(kind(SQUARES), SQUARES)
    assert torch.equal(kind(SQUARES).take_centres(CHOSEN), SQUARES[CHOSEN])


def test_boxes_of_both_kinds_are_the_same():
    resident, packed = (kind(SQUARES).cut(CHOSEN, BOXES) for kind in KINDS.values())
    assert torch.equal(resident, packed) and resident.shape == (4, SIDE, SIDE, 3)
    assert torch.equal(resident[0], SQUARES[7])
    assert torch.equal(resident[2], SQUARES[19, 11, 11].expand(SIDE, SIDE, 3))


def test_some_of_the_images(kind):
    assert_holds(kind(SQUARES).select(CHOSEN), SQUARES[CHOSEN])


def test_images_and_others_after_them(kind):
    first, second, third = (kind(some) for some in SQUARES.split([5, 8, 7]))
    joined = first.join(second).join(third)
    assert_holds(joined, SQUARES)
    assert_holds(joined.select(CHOSEN).join(first), torch.cat([SQUARES[CHOSEN], SQUARES[:5]]))
    labelled = ImageSet(first, torch.arange(5)).join(ImageSet(second, torch.arange(8)))
    assert labelled.labels.tolist() == [*range(5), *range(8)] and len(labelled.store) == len(labelled) == 13


def test_pieces_are_all_pixels(kind, monkeypatch):
    monkeypatch.setattr(store_module, "PIECE", 3)
    pieces = [piece.reshape(-1, SIDE, SIDE, 3) for piece in kind(SQUARES).pieces(CHOSEN)]
    assert torch.equal(torch.cat(pieces), SQUARES[CHOSEN])


def test_numbers_that_are_no_pixels():
    numbers = Resident(torch.linspace(0, 1, 5).view(5, 1, 1, 1))
    assert not numbers.holds_pixels and torch.equal(numbers.take_centres(torch.tensor([3])), numbers.tensor[3:4])


def test_a_digest_is_another_for_other_images(kind):
    """Also of the same sizes, and in another order."""
    digest = kind(SQUARES).digest
    other = SQUARES.clone()
    other[3, 0, 0, 0] ^= 1
    everything = torch.arange(NUM)
    assert kind(SQUARES).select(everything).digest == digest
    for store in (kind(other), kind(SQUARES).select(everything.flip(0)), kind(SQUARES).select(everything[1:])):
        assert store.digest != digest
