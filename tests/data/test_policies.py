"""Policies against torchvision's: every operation at every level, and what chance picks."""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from cnnlab.data import policies
from cnnlab.data.policies import MAX_LEVEL, OPERATIONS, operate

SIDE = 19
# Whole levels slant, sharpen and brighten right to the middle between two pixels or two levels, where rounding decides.
LEVELS = [sign * (level + 0.1) for level in range(MAX_LEVEL) for sign in (1, -1)]
IMAGES = torch.randint(0, 256, (len(LEVELS), SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator())
SPACES = {False: v2.RandAugment._AUGMENTATION_SPACE, True: v2.TrivialAugmentWide._AUGMENTATION_SPACE}


def rounded(function: Callable[[Tensor, float], Tensor], image: Tensor, factor: float) -> Tensor:
    """uint8, by way of torchvision's function for images in floating point."""
    return (function(image / 255, factor) * 255).round().to(torch.uint8)


STILL = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
REFERENCES = {  # image, magnitude; as torchvision's policies call them
    "Identity": lambda x, m: x,
    "ShearX": lambda x, m: TF.affine(x, **STILL | {"shear": [degrees(atan(m)), 0.0]}, center=[0, 0]),
    "ShearY": lambda x, m: TF.affine(x, **STILL | {"shear": [0.0, degrees(atan(m))]}, center=[0, 0]),
    "TranslateX": lambda x, m: TF.affine(x, **STILL | {"translate": [int(m), 0]}),
    "TranslateY": lambda x, m: TF.affine(x, **STILL | {"translate": [0, int(m)]}),
    "Rotate": TF.rotate,
    "Brightness": lambda x, m: rounded(TF.adjust_brightness, x, 1 + m),
    "Color": lambda x, m: rounded(TF.adjust_saturation, x, 1 + m),
    "Contrast": lambda x, m: rounded(TF.adjust_contrast, x, 1 + m),
    "Sharpness": lambda x, m: TF.adjust_sharpness(x, 1 + m),
    "Posterize": lambda x, m: TF.posterize(x, 8 - round(m)),
    "Solarize": lambda x, m: TF.solarize(x, 255 - m),
    "AutoContrast": lambda x, m: TF.autocontrast(x),
    "Equalize": lambda x, m: TF.equalize(x),
}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("index, name", list(enumerate(REFERENCES)))
def test_every_operation_at_every_level(index, name, wide):
    operation = list(OPERATIONS.values())[index]
    reach = operation.wide_reach if wide else operation.reach * (SIDE if operation.of_side else 1)
    got = operate(IMAGES, torch.full((len(IMAGES),), index), torch.tensor(LEVELS), wide=wide)
    for image, result, level in zip(IMAGES, got, LEVELS, strict=True):
        magnitude = (level if operation.signed else abs(level)) * reach / MAX_LEVEL
        expected = REFERENCES[name](image.permute(2, 0, 1), magnitude).permute(1, 2, 0)
        difference = (result.int() - expected.int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() < 0.05


@pytest.mark.parametrize("wide", [False, True])
def test_the_table_is_torchvisions(wide):
    assert list(SPACES[wide]) == list(REFERENCES)
    for (name, (magnitudes, signed)), operation in zip(SPACES[wide].items(), OPERATIONS.values(), strict=True):
        theirs = magnitudes(MAX_LEVEL + 1, SIDE, SIDE)
        reach = operation.wide_reach if wide else operation.reach * (SIDE if operation.of_side else 1)
        ours = torch.linspace(0, reach, MAX_LEVEL + 1)
        if name == "Posterize":
            ours = 8 - ours.round()
        if name == "Solarize":
            ours = 1 - ours / 255
        if theirs is not None:
            torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=0)
            assert operation.signed == signed
        else:
            assert reach == 0


def drawing(numbers: Tensor):
    def draw(num_values: int) -> Tensor:
        assert num_values == numbers.shape[1]
        return numbers

    return draw


def test_rand_augment_applies_what_was_drawn_one_after_the_other():
    numbers = torch.rand(len(IMAGES), 4, generator=torch.Generator().manual_seed(3))
    augmented = policies.rand_augment(IMAGES, drawing(numbers), num_ops=2, magnitude=13)
    for image, result, row in zip(IMAGES, augmented, numbers.tolist(), strict=True):
        for uniform, sign in (row[:2], row[2:]):
            level = torch.tensor([-13.0 if sign < 0.5 else 13.0])
            image = operate(image.unsqueeze(0), torch.tensor([int(uniform * 14)]), level, wide=False)[0]
        assert torch.equal(result, image)


def test_trivial_augment_draws_every_operation_sign_and_level_alike(monkeypatch):
    seen = {}
    monkeypatch.setattr(policies, "operate", lambda *given, wide: seen.update(choice=given[1], level=given[2]))
    policies.trivial_augment(IMAGES, drawing(torch.rand(50_000, 3, generator=torch.Generator().manual_seed(0))))
    assert torch.bincount(seen["choice"]).float().sub(50_000 / 14).abs().max() < 300
    counts = torch.bincount((seen["level"] + MAX_LEVEL).long(), minlength=2 * MAX_LEVEL + 1)
    assert (counts > 600).all() and counts.sum() == 50_000  # 806 each, 0 twice


def test_of_one_channel():
    grey = IMAGES[..., :1]
    for index in range(len(OPERATIONS)):
        result = operate(grey, torch.full((len(grey),), index), torch.full((len(grey),), 9.0), wide=True)
        assert result.shape == grey.shape and result.dtype == torch.uint8
