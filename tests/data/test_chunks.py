"""Crops of pictures, chunk after chunk, as plain loops would cut them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.data import chunks
from cnnlab.data.chunks import Framing, choose_chunk_size, stream_chunks
from cnnlab.data.registry import Unlabelled
from cnnlab.data.resize import crop_square, scale_shorter
from cnnlab.errors import DataError

GENERATOR = torch.Generator().manual_seed(0)
PICTURES = [
    torch.randint(0, 256, (20 + place % 7, 30 - place % 5, 3), dtype=torch.uint8, generator=GENERATOR)
    for place in range(23)
]
IMAGES = Unlabelled(tuple(map(str, range(23))), lambda place, shorter: scale_shorter(PICTURES[place], shorter))
FRAMINGS = [Framing(16, 18), Framing(12, 12)]


@pytest.mark.parametrize("start", [0, 8, 20])
def test_chunks_are_the_crops_of_each_picture_in_order(monkeypatch, start):
    monkeypatch.setattr(chunks, "MAX_IMAGES", 4)
    found = list(stream_chunks(IMAGES, FRAMINGS, corners=False, start=start))
    assert [len(chunk[0]) for chunk in found[:-1]] == [4] * (len(found) - 1)
    for place, framing in enumerate(FRAMINGS):
        crops = torch.cat([chunk[place] for chunk in found])
        expected = [crop_square(picture, framing.size, framing.shorter) for picture in PICTURES[start:]]
        assert torch.equal(crops, torch.stack(expected).unsqueeze(1))


def test_five_crops_are_the_centre_and_the_corners_of_the_resized_picture():
    picture = torch.arange(20 * 30, dtype=torch.int32).reshape(20, 30, 1).to(torch.uint8)
    centre, *corners = Framing(16, 20).cut(picture, corners=True)
    assert torch.equal(centre, picture[2:18, 7:23])
    expected = [picture[:16, :16], picture[:16, 14:], picture[4:, :16], picture[4:, 14:]]
    assert torch.equal(torch.stack(corners), torch.stack(expected))


def test_pictures_that_cannot_be_decoded_are_named_together(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_IMAGES", 10)

    def open_some(place: int, shorter: int) -> torch.Tensor:
        if place in (13, 17):
            raise DataError(f"{place}.png: torn")
        return scale_shorter(PICTURES[place], shorter)

    with pytest.raises(DataError, match=r"2 pictures cannot be decoded(.|\n)*13.png: torn\n  17.png: torn"):
        list(stream_chunks(Unlabelled(IMAGES.ids, open_some), FRAMINGS, corners=False))


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(600, 700)), min_size=1, max_size=3), st.booleans())
def test_a_chunk_is_bounded_in_images_and_bytes(framings, corners):
    framings = [Framing(*framing) for framing in framings]
    size = choose_chunk_size(framings, corners)
    num_bytes = sum(3 * framing.size**2 for framing in framings) * (5 if corners else 1)
    assert 1 <= size <= chunks.MAX_IMAGES
    assert size == 1 or size * num_bytes <= chunks.MAX_BYTES
