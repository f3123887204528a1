"""Colours against torchvision's functions, image by image with the same parameters.

Integer arithmetic is equal. Of float32 the same sum in another order may be rounded to the other of two levels: then
a few values in a thousand are one level off.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cnnlab.data import colour
from cnnlab.data.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION

NUM = 48
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (NUM, 11, 14, 3), dtype=torch.uint8, generator=GENERATOR)
IMAGES[:4] = IMAGES[:4, :1, :1]  # of one colour
IMAGES[4:12] = IMAGES[4:12] // 8 + 100  # of little contrast
IMAGES[12:16] = IMAGES[12:16, ..., :1]  # grey
CHANGES = torch.linspace(-0.9, 0.9, NUM)


def draw(num_values: int) -> Tensor:
    return torch.rand(NUM, num_values, generator=torch.Generator().manual_seed(num_values))


def one_by_one(function: Callable[[Tensor, int], Tensor], images: Tensor = IMAGES) -> Tensor:
    """`function` of torchvision, uint8 (C, H, W) and the number of the image, for each image."""
    return torch.stack([function(image.permute(2, 0, 1), n).permute(1, 2, 0) for n, image in enumerate(images)])


def in_float(function: Callable[[Tensor, int], Tensor], images: Tensor = IMAGES) -> Tensor:
    """The same for a function of images in floating point; rounded at the end."""
    return one_by_one(lambda image, n: (function(image / 255, n) * 255).round().to(torch.uint8), images)


def nearly_equal(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == torch.uint8 and got.shape == expected.shape
    difference = (got.int() - expected.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.005


@pytest.mark.parametrize(
    ("function", "reference", "each"),
    [
        (colour.brighten, TF.adjust_brightness, in_float),
        (colour.contrast, TF.adjust_contrast, in_float),
        (colour.saturate, TF.adjust_saturation, in_float),
        (colour.sharpen, TF.adjust_sharpness, one_by_one),
    ],
)
@pytest.mark.parametrize("channels", [3, 1])
def test_a_change_of_each_image(function, reference, each, channels):
    images = IMAGES[..., :channels]
    expected = each(lambda image, n: reference(image, 1 + CHANGES[n].item()), images)
    nearly_equal(function(images, CHANGES), expected)


def test_hue():
    turns = torch.linspace(-0.5, 0.5, NUM)
    factors = turns.unsqueeze(1).expand(-1, 4)
    turned = colour.adjust(IMAGES, factors, torch.full((NUM, 1), HUE), has_hue=True)
    nearly_equal(turned, in_float(lambda image, n: TF.adjust_hue(image, turns[n].item())))


def test_jitter_in_the_drawn_order_with_the_drawn_factors():
    jittered = colour.color_jitter(IMAGES, draw, brightness=0.4, contrast=0.3, saturation=1.5, hue=0.2)
    numbers = draw(8).double()
    lowest, width = torch.tensor([0.6, 0.7, 0.0, -0.2]), torch.tensor([0.8, 0.6, 2.5, 0.4])
    factors, orders = (lowest + numbers[:, :4] * width).tolist(), numbers[:, 4:].argsort(1).tolist()
    references = {
        BRIGHTNESS: TF.adjust_brightness,
        CONTRAST: TF.adjust_contrast,
        SATURATION: TF.adjust_saturation,
        HUE: TF.adjust_hue,
    }

    def reference(image: Tensor, n: int) -> Tensor:
        for operation in orders[n]:
            image = references[operation](image, factors[n][operation])
        return image

    nearly_equal(jittered, in_float(reference))
    assert len({tuple(order) for order in orders}) > 12


def test_an_operation_of_reach_0_is_none():
    assert torch.equal(colour.color_jitter(IMAGES, draw, brightness=0, contrast=0, saturation=0), IMAGES)
    brightness = colour.color_jitter(IMAGES, draw, brightness=0.4, contrast=0, saturation=0)
    assert torch.equal(brightness, colour.brighten(IMAGES, draw(8)[:, 0] * 0.8 - 0.4))


@pytest.mark.parametrize("num_images", [1, 7])
def test_an_image_is_the_same_in_any_chunk(monkeypatch, num_images):
    whole = colour.color_jitter(IMAGES, draw, hue=0.1)
    monkeypatch.setattr(colour, "CHUNK", num_images * 11 * 14 * 3)
    assert torch.equal(colour.color_jitter(IMAGES, draw, hue=0.1), whole)


def test_jitter_of_one_channel_leaves_out_what_needs_three():
    grey = IMAGES[..., :1]
    jittered = colour.color_jitter(grey, draw, hue=0.5)
    assert torch.equal(jittered, colour.color_jitter(grey, draw, saturation=0))
    assert not torch.equal(jittered, grey)


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (colour.auto_contrast, TF.autocontrast),
        (colour.equalize, TF.equalize),
        (colour.to_grey, lambda image: TF.rgb_to_grayscale(image, 3)),
    ],
)
def test_what_is_counted_is_equal(function, reference):
    assert torch.equal(function(IMAGES), one_by_one(lambda image, n: reference(image)))


def test_bits_and_thresholds_are_equal():
    dropped, depth = torch.arange(NUM) % 9, torch.linspace(0, 255, NUM)
    expected = one_by_one(lambda image, n: TF.posterize(image, 8 - int(dropped[n])))
    assert torch.equal(colour.posterize(IMAGES, dropped.float()), expected)
    expected = one_by_one(lambda image, n: TF.solarize(image, 255 - depth[n].item()))
    assert torch.equal(colour.solarize(IMAGES, depth), expected)


def test_grayscale_takes_the_colour_of_those_below_p():
    grey = colour.grayscale(IMAGES, draw, p=0.4)
    chosen = draw(1)[:, 0] < 0.4
    assert torch.equal(grey[chosen], colour.to_grey(IMAGES)[chosen])
    assert torch.equal(grey[~chosen], IMAGES[~chosen])
    assert torch.equal(colour.grayscale(IMAGES[..., :1], draw, p=1.0), IMAGES[..., :1])


def test_the_source_is_left_alone():
    before = IMAGES.clone()
    colour.color_jitter(IMAGES, draw, hue=0.1)
    colour.grayscale(IMAGES, draw, p=0.5)
    for function in (colour.sharpen, colour.solarize, colour.posterize):
        function(IMAGES, CHANGES.abs())
    for function in (colour.auto_contrast, colour.equalize):
        function(IMAGES)
    assert torch.equal(IMAGES, before)
