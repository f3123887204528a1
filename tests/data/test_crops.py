"""Boxes beside a loop over the images and torchvision's own, and what is cut out beside torchvision's functions."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from cnnlab.data.crops import TRIES, centre, random_resized_crop
from cnnlab.data.registry import CROPS
from cnnlab.data.resize import resize_picture, resized_shape
from cnnlab.data.store import Resident, cut_by_matrices
from cnnlab.errors import ConfigError
from tests.conftest import small_config

SQUARES = torch.randint(0, 256, (30, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SHAPES = [(30, 40), (40, 30), (25, 25), (8, 200), (200, 8), (1, 1)]


def numbers(num: int, num_values: int = 2 * TRIES + 2) -> torch.Tensor:
    return torch.rand(num, num_values, generator=torch.Generator().manual_seed(1))


def some_boxes(num: int, size: int) -> torch.Tensor:
    sizes = torch.full((num, 2), size)
    return random_resized_crop(sizes, lambda k: numbers(num, k))


def box_by_hand(height: int, width: int, drawn: list[float], scale, ratio) -> list[int]:
    """One try after the other, as torchvision goes about it."""
    for share, shape in zip(drawn[:TRIES], drawn[TRIES:-2], strict=True):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * share)
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * shape)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [int(drawn[-2] * (height - h + 1)), int(drawn[-1] * (width - w + 1)), h, w]
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.9), (1.0, 1.0)), ((1.0, 1.0), (0.5, 0.6))]
)
def test_boxes_are_those_of_a_loop(scale, ratio):
    sizes = torch.tensor(SHAPES * 50)
    drawn = numbers(len(sizes))
    boxes = random_resized_crop(sizes, lambda k: drawn, scale=scale, ratio=ratio)
    for (height, width), row, box in zip(sizes.tolist(), drawn.tolist(), boxes.tolist(), strict=True):
        assert box == box_by_hand(height, width, row, scale, ratio)


@pytest.mark.parametrize(("height", "width"), [(30, 40), (60, 20)])
def test_boxes_are_distributed_as_torchvisions(height, width):
    """Quartiles of each side and position, and how often the fallback is taken."""
    num = 4000
    torch.manual_seed(0)
    transform, picture = RandomResizedCrop(10), torch.zeros(3, height, width)
    theirs = [transform.make_params([picture]) for _ in range(num)]
    expected = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in theirs]).float()
    ours = random_resized_crop(torch.tensor([[height, width]] * num), lambda k: numbers(num, k)).float()
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    difference = ours.quantile(levels, dim=0) - expected.quantile(levels, dim=0)
    assert (difference.abs() <= 0.04 * max(height, width)).all()
    torch.testing.assert_close(ours.mean(0), expected.mean(0), rtol=0.05, atol=0.3)


def test_an_image_is_cut_out_once(monkeypatch, tmp_path):
    monkeypatch.setitem(CROPS._builders, "other_crop", lambda sizes, draw: sizes)
    both = ["augment=resized_crop", "+augment.other_crop={}"]
    with pytest.raises(ConfigError, match="augment: random_resized_crop and other_crop were given; expected one"):
        small_config(tmp_path, *both)
    small_config(tmp_path, *both, "augment.random_resized_crop=null")


@pytest.mark.parametrize("grey", [True, False])
def test_what_is_cut_out_equals_torchvisions(grey):
    images = SQUARES[..., :1].contiguous() if grey else SQUARES
    indices, boxes = torch.arange(29, -1, -1), some_boxes(30, 40)
    boxes[0], boxes[1], boxes[2] = torch.tensor([[0, 0, 40, 40], [39, 0, 1, 40], [7, 7, 1, 1]])
    result = Resident(images).cut(indices, boxes)
    for index, box, square in zip(indices, boxes.tolist(), result, strict=True):
        expected = F.resized_crop(images[index].permute(2, 0, 1), *box, [40, 40], antialias=True)
        assert torch.equal(square.permute(2, 0, 1), expected)


def test_accelerators_cut_the_same_to_a_level():
    boxes = some_boxes(30, 40)
    boxes[0], boxes[1] = torch.tensor([[0, 0, 40, 40], [39, 0, 1, 40]])
    assert torch.equal(cut_by_matrices(SQUARES[:1], boxes[:1], 40), SQUARES[:1])
    difference = cut_by_matrices(SQUARES, boxes, 40).int() - Resident(SQUARES).cut(torch.arange(30), boxes).int()
    assert difference.abs().max() <= 1


def test_threads_change_nothing():
    indices, boxes = torch.arange(30), some_boxes(30, 40)
    assert torch.equal(Resident(SQUARES).cut(indices, boxes, num_threads=3), Resident(SQUARES).cut(indices, boxes))


@pytest.mark.parametrize(("height", "width"), [(30, 41), (57, 30), (20, 20), (300, 217)])
def test_resize_and_centre_are_torchvisions(height, width):
    picture = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
    resized = torch.from_numpy(resize_picture(picture.numpy(), resized_shape(height, width, 26)))
    expected = F.resize(picture.permute(2, 0, 1), [26], antialias=True)
    assert torch.equal(resized.permute(2, 0, 1), expected)
    ((top, left, *size),) = centre(torch.tensor([resized.shape[:2]]), 21).tolist()
    square = resized[top : top + 21, left : left + 21].permute(2, 0, 1)
    assert size == [21, 21] and torch.equal(square, F.center_crop(expected, [21, 21]))
