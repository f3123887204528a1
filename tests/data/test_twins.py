"""Near-twins: found however they were changed, and not where pictures merely look alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from cnnlab.data import twins as finding
from cnnlab.data.twins import find_twins


def draw_pictures(number: int, size: int = 48) -> list[Image.Image]:
    """Different pictures of smooth colours, as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (number, 7, 7, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC) for each in coarse]


def encode_again(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=40)
    return Image.open(file)


CHANGES = {
    "the same": lambda picture: picture,
    "encoded again": encode_again,
    "scaled": lambda picture: picture.resize((31, 31)).resize(picture.size),
    "lighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.8),
    "cropped": lambda picture: picture.crop((1, 1, 47, 47)).resize(picture.size),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change, monkeypatch):
    monkeypatch.setattr(finding, "CHUNK", 64)  # more than one
    pictures = draw_pictures(200)
    pictures.append(CHANGES[change](pictures[17]))
    pixels = torch.from_numpy(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
    (pair,) = find_twins([pixels])
    assert (pair.first, pair.second) == (17, 200)
    assert pair.similarity > (0.999 if change == "the same" else finding.LEAST_CORRELATION)


def test_images_of_one_colour_have_no_twins():
    assert find_twins([torch.full((5, 8, 8, 1), 7, dtype=torch.uint8)]) == []
