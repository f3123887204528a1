"""Each augmentation beside a slow one that works image by image with plain loops."""

from __future__ import annotations

import pytest
import torch

from cnnlab.data.augment import cutout, flip, pad_crop, translate

IMAGES = torch.randint(1, 256, (40, 9, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Recorded:
    """A `draw` that remembers what it gave."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def __call__(self, num_values: int) -> torch.Tensor:
        self.numbers = torch.rand(len(IMAGES), num_values, generator=self.generator)
        return self.numbers


def test_flip_mirrors_those_below_p():
    draw = Recorded()
    flipped = flip(IMAGES, draw, p=0.3)
    for image, result, (number,) in zip(IMAGES, flipped, draw.numbers, strict=True):
        columns = range(6, -1, -1) if number < 0.3 else range(7)
        expected = torch.stack([image[:, column] for column in columns], dim=1)
        assert torch.equal(result, expected)


@pytest.mark.parametrize(("function", "argument"), [(pad_crop, "padding"), (translate, "pixels")])
def test_shifts_move_every_pixel_by_the_drawn_offset(function, argument):
    draw = Recorded()
    shifted = function(IMAGES, draw, **{argument: 2})
    offsets = (draw.numbers * 5).long() - 2  # how far the window moves over the image
    for image, result, (down, right) in zip(IMAGES, shifted, offsets.tolist(), strict=True):
        expected = torch.zeros_like(image)
        for row in range(9):
            for column in range(7):
                if 0 <= row + down < 9 and 0 <= column + right < 7:
                    expected[row, column] = image[row + down, column + right]
        assert torch.equal(result, expected)
    assert {-2, 0, 2} <= set(offsets.flatten().tolist())


def test_cutout_blacks_a_square_around_a_pixel_inside():
    draw = Recorded()
    cut = cutout(IMAGES, draw, size=3, fill=0)
    centres = (draw.numbers * torch.tensor([9, 7])).long()
    for image, result, (y, x) in zip(IMAGES, cut, centres.tolist(), strict=True):
        expected = image.clone()
        expected[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 0
        assert torch.equal(result, expected)


@pytest.mark.parametrize("function", [flip, pad_crop, translate, cutout])
def test_the_source_is_left_alone(function):
    before = IMAGES.clone()
    assert function(IMAGES, Recorded()).dtype == torch.uint8
    assert torch.equal(IMAGES, before)
