"""Crops of pictures, chunk after chunk, as plain loops would cut them."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.data import chunks
from cnnlab.data.chunks import Framing, choose_chunk_size, map_chunks
from cnnlab.data.dataset import Unlabelled
from cnnlab.data.resize import crop_square, scale_shorter
from cnnlab.errors import DataError

GENERATOR = np.random.default_rng(0)
PICTURES = [GENERATOR.integers(0, 256, (20 + index % 7, 30 - index % 5, 3), np.uint8) for index in range(23)]
IMAGES = Unlabelled(tuple(map(str, range(23))), lambda index, shorter: scale_shorter(PICTURES[index], shorter))
FRAMINGS = [Framing(16, 18), Framing(12, 12)]


def flatten(crops: list[np.ndarray]) -> np.ndarray:
    """Of each image all pixels of all framings, and the process that sees them."""
    pixels = np.concatenate([pixels.reshape(len(pixels), -1) for pixels in crops], axis=1)
    return np.insert(pixels.astype(np.int64), 0, os.getpid(), axis=1)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("start", [0, 8, 20])
def test_what_is_predicted_are_the_crops_of_each_picture_in_order(monkeypatch, start, beside):
    monkeypatch.setattr(chunks, "MAX_IMAGES", 4)
    found = list(map_chunks(flatten, IMAGES, FRAMINGS, corners=False, start=start, beside=beside))
    assert [len(chunk) for chunk in found[:-1]] == [4] * (len(found) - 1)
    predictions = np.concatenate(found)
    expected = [
        np.concatenate([crop_square(picture, framing.size, framing.shorter).ravel() for framing in FRAMINGS])
        for picture in PICTURES[start:]
    ]
    assert np.array_equal(predictions[:, 1:], np.stack(expected))
    by_others = predictions[:, 0] != os.getpid()
    assert by_others.all() if beside and sys.platform == "linux" and len(found) > 1 else not by_others.any()


def test_five_crops_are_the_centre_and_the_corners_of_the_resized_picture():
    picture = np.arange(20 * 30).reshape(20, 30, 1).astype(np.uint8)
    centre, *corners = Framing(16, 20).cut(picture, corners=True)
    assert np.array_equal(centre, picture[2:18, 7:23])
    expected = [picture[:16, :16], picture[:16, 14:], picture[4:, :16], picture[4:, 14:]]
    assert np.array_equal(corners, expected)


def test_pictures_that_cannot_be_decoded_are_named_together(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_IMAGES", 10)

    def open_some(index: int, shorter: int) -> np.ndarray:
        if index in (13, 17):
            raise DataError(f"{index}.png: torn")
        return scale_shorter(PICTURES[index], shorter)

    with pytest.raises(DataError, match=r"2 pictures cannot be decoded(.|\n)*13.png: torn\n  17.png: torn"):
        list(map_chunks(flatten, Unlabelled(IMAGES.ids, open_some), FRAMINGS, corners=False, beside=True))


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(600, 700)), min_size=1, max_size=3), st.booleans())
def test_a_chunk_is_bounded_in_images_and_bytes(framings, corners):
    framings = [Framing(*framing) for framing in framings]
    size = choose_chunk_size(framings, corners)
    num_bytes = sum(3 * framing.size**2 for framing in framings) * (5 if corners else 1)
    assert 1 <= size <= chunks.MAX_IMAGES
    assert size == 1 or size * num_bytes <= chunks.MAX_BYTES
