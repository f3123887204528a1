"""Each augmentation beside a slow one that works image by image: plain loops, or torchvision's functions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from cnnlab.data.augment import (
    affine,
    choose_rectangles,
    cutout,
    enlarge_crop,
    flip,
    pad_crop,
    random_erasing,
    rotate,
    small_at_first,
    translate,
)
from cnnlab.data.resize import resize

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


@pytest.mark.parametrize(("function", "argument"), [(pad_crop, "padding"), (translate, "pixels")])
def test_the_mirrored_edge_moves_in(function, argument):
    draw = Recorded()
    shifted = function(IMAGES, draw, **{argument: 3, "edge": "reflect"})
    padded = F.pad(IMAGES.permute(0, 3, 1, 2).float(), [3] * 4, "reflect").byte().permute(0, 2, 3, 1)
    starts = (draw.numbers * 7).long().tolist()
    for image, result, (top, left) in zip(padded, shifted, starts, strict=True):
        assert torch.equal(result, image[top : top + 9, left : left + 7])


def test_small_at_first_resizes_by_the_epoch():
    draw = Recorded()
    for epoch, size in enumerate([4, 4, 6, None, None]):
        draw.epoch = epoch
        found = small_at_first(IMAGES, draw, sizes=(4, 6), epochs=(2, 1))
        assert torch.equal(found, IMAGES if size is None else resize(IMAGES, size))


def test_enlarge_crop_is_resize_and_random_crop_of_torchvision():
    """The notes' Resize(40) and RandomCrop(32): all 81 windows of the enlarged image, each as likely."""
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    corners = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    cropped = enlarge_crop(image.expand(81, -1, -1, -1), lambda num_values: (corners + 0.5) / 9, size=40)
    enlarged = v2.Resize(40)(image.permute(0, 3, 1, 2))
    windows = torch.cat([TF.crop(enlarged, top, left, 32, 32) for top, left in corners.tolist()])
    difference = (cropped.permute(0, 3, 1, 2).int() - windows.int()).abs()
    assert difference.max() <= 1  # of rounding: torchvision computes in whole numbers
    assert difference.float().mean() < 0.25


def test_cutout_blacks_a_square_around_a_pixel_inside():
    draw = Recorded()
    cut = cutout(IMAGES, draw, size=3, fill=0)
    centres = (draw.numbers * torch.tensor([9, 7])).long()
    for image, result, (y, x) in zip(IMAGES, cut, centres.tolist(), strict=True):
        expected = image.clone()
        expected[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 0
        assert torch.equal(result, expected)


@pytest.mark.parametrize("function", [flip, pad_crop, translate, cutout, random_erasing, rotate, affine])
def test_the_source_is_left_alone(function):
    before = IMAGES.clone()
    assert function(IMAGES, Recorded()).dtype == torch.uint8
    assert torch.equal(IMAGES, before)


# --- Rectangles -----------------------------------------------------------------------------------------


def test_random_erasing_overwrites_the_rectangle_that_was_drawn():
    draw = Recorded()
    erased = random_erasing(IMAGES, draw, p=0.6, scale=(0.1, 0.9), ratio=(0.5, 2.0), fill=7)
    num_missed = 0
    for image, result, row in zip(IMAGES, erased, draw.numbers.double().tolist(), strict=True):
        expected = image.clone()
        for share, ratio in zip(row[3:13], row[13:23], strict=True):
            area, ratio = 9 * 7 * (0.1 + 0.8 * share), 0.5 * 4**ratio
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < 9 and width < 7:
                break
            num_missed += 1
        else:
            height = width = 0
        top, left = int(row[1] * (9 - height + 1)), int(row[2] * (7 - width + 1))
        if row[0] < 0.6:
            expected = TF.erase(expected.permute(2, 0, 1), top, left, height, width, torch.tensor(7)).permute(1, 2, 0)
        assert torch.equal(result, expected)
    assert num_missed > 10


def test_rectangles_are_spread_as_torchvisions():
    """The same shares of height, width and position, over 4,000 draws of either."""
    torch.manual_seed(0)
    theirs = [v2.RandomErasing(p=1.0).make_params([torch.empty(3, 40, 40)]) for _ in range(4000)]
    theirs = torch.tensor([[p["i"], p["j"], p["h"], p["w"]] for p in theirs]).float()
    start, size = choose_rectangles(torch.rand(4000, 22), 40, 40, (0.02, 0.33), (0.3, 3.3))
    ours = torch.cat([start, size], 1).float()
    for share in (0.1, 0.5, 0.9):
        assert (ours.quantile(share, 0) - theirs.quantile(share, 0)).abs().max() <= 1
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), rtol=0.05, atol=0.3)


# --- Moves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bilinear", [False, True])
def test_rotate_and_affine_equal_torchvisions(bilinear):
    draw = Recorded()
    interpolation = InterpolationMode.BILINEAR if bilinear else InterpolationMode.NEAREST
    rotated = rotate(IMAGES, draw, degrees=50.0, bilinear=bilinear)
    degrees = (draw.numbers[:, 0].double() * 100 - 50).tolist()
    for image, result, angle in zip(IMAGES, rotated, degrees, strict=True):
        # Positive degrees are clockwise here, counter-clockwise there.
        expected = TF.rotate(image.permute(2, 0, 1), -angle, interpolation=interpolation).permute(1, 2, 0)
        nearly_equal(result, expected)
    moved = affine(IMAGES, draw, degrees=30.0, translate=0.3, scale=(0.5, 1.5), shear=20.0, bilinear=bilinear)
    for image, result, row in zip(IMAGES, moved, draw.numbers.double(), strict=True):
        turn, slant_x, slant_y, right, down = (2 * row[:5] - 1).tolist()
        expected = TF.affine(
            image.permute(2, 0, 1),
            angle=30 * turn,
            translate=[round(right * 0.3 * 7), round(down * 0.3 * 9)],
            scale=0.5 + row[5].item(),
            shear=[20 * slant_x, 20 * slant_y],
            interpolation=interpolation,
        ).permute(1, 2, 0)
        nearly_equal(result, expected)


def nearly_equal(got: torch.Tensor, expected: torch.Tensor) -> None:
    """But for what lies between two pixels or two levels, where rounding decides."""
    assert ((got.int() - expected.int()).abs() > 1).float().mean() <= 0.02


def test_a_move_by_nothing_changes_nothing():
    still = affine(IMAGES, Recorded(), degrees=0.0, translate=0.0, scale=(1.0, 1.0), shear=0.0)
    assert torch.equal(still, IMAGES)
    assert torch.equal(rotate(IMAGES, Recorded(), degrees=0.0, bilinear=True), IMAGES)
