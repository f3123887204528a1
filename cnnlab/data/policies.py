"""Policies: for each image, operations drawn from a table.

RandAugment, Cubuk et al., arXiv:1909.13719, and TrivialAugment (wide), Müller & Hutter, arXiv:2103.10158, with the
operations and the magnitudes of torchvision. An operation is applied at once to all images of the batch that drew it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from cnnlab.data import colour
from cnnlab.data.augment import invert_affine, warp
from cnnlab.data.registry import AUGMENTS, Draw
from cnnlab.signature import Count, Range

MAX_LEVEL = 30

Magnitude = Annotated[int, Range(at_least=0, at_most=MAX_LEVEL)]


@AUGMENTS.register
def rand_augment(images: Tensor, draw: Draw, *, num_ops: Count = 2, magnitude: Magnitude = 9) -> Tensor:
    """Apply `num_ops` operations to each image, one after the other, all at `magnitude` of 30."""
    numbers = draw(2 * num_ops)
    levels = torch.full_like(numbers[:, 0], magnitude)
    for choice, sign in numbers.view(-1, num_ops, 2).permute(1, 2, 0):
        images = operate(images, draw_operation(choice), draw_sign(sign) * levels, wide=False)
    return images


@AUGMENTS.register
def trivial_augment(images: Tensor, draw: Draw) -> Tensor:
    """Apply one operation to each image, of any magnitude up to extreme ones."""
    choice, sign, level = draw(3).unbind(1)
    levels = (level * (MAX_LEVEL + 1)).floor()
    return operate(images, draw_operation(choice), draw_sign(sign) * levels, wide=True)


def draw_operation(uniform: Tensor) -> Tensor:
    return (uniform * len(OPERATIONS)).long()


def draw_sign(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)


def operate(images: Tensor, choice: Tensor, levels: Tensor, *, wide: bool) -> Tensor:
    """Each image after the operation `choice` (N,) of OPERATIONS, at `levels` (N,) from -30 to 30."""
    changed = images.clone()
    for index, operation in enumerate(OPERATIONS.values()):
        reach = operation.wide_reach if wide else operation.reach
        if operation.of_side and not wide:
            reach *= images.shape[1]
        magnitudes = (levels if operation.signed else levels.abs()) * reach / MAX_LEVEL
        colour.apply_to(choice == index, changed, operation.apply, magnitudes)
    return changed


# --- The table ----------------------------------------------------------------------------------------


def keep(images: Tensor, _: Tensor) -> Tensor:
    return images


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Rows move by `slope` times their distance from the upper edge."""
    return _shear(images, slope, axis=0)


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    return _shear(images, slope, axis=1)


def _shear(images: Tensor, slope: Tensor, axis: int) -> Tensor:
    slant = torch.zeros(len(slope), 2, device=slope.device)
    slant[:, axis] = slope
    sources = invert_affine(torch.zeros_like(slope), slant=slant)
    sources[:, axis, 2] = slope * images.shape[1] / 2  # from the corner on, not from the centre
    return warp(images, sources, bilinear=False)


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    return _translate(images, pixels, axis=0)


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    return _translate(images, pixels, axis=1)


def _translate(images: Tensor, pixels: Tensor, axis: int) -> Tensor:
    move = torch.zeros(len(pixels), 2, device=pixels.device)
    move[:, axis] = pixels.trunc()
    return warp(images, invert_affine(torch.zeros_like(pixels), move), bilinear=False)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    return warp(images, invert_affine(-torch.deg2rad(degrees)), bilinear=False)


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    return colour.auto_contrast(images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    return colour.equalize(images)


class Operation(NamedTuple):
    apply: Callable[[Tensor, Tensor], Tensor]  # images, magnitude of each → images
    reach: float = 0.0  # the magnitude at level 30: of RandAugment
    wide_reach: float = 0.0  # … and of TrivialAugment
    signed: bool = False  # either way
    of_side: bool = False  # RandAugment's is a share of the image's side


OPERATIONS = {
    "identity": Operation(keep),
    "shear_x": Operation(shear_x, 0.3, 0.99, signed=True),
    "shear_y": Operation(shear_y, 0.3, 0.99, signed=True),
    "translate_x": Operation(translate_x, 150 / 331, 32, signed=True, of_side=True),
    "translate_y": Operation(translate_y, 150 / 331, 32, signed=True, of_side=True),
    "rotate": Operation(rotate, 30, 135, signed=True),
    "brightness": Operation(colour.brighten, 0.9, 0.99, signed=True),
    "color": Operation(colour.saturate, 0.9, 0.99, signed=True),
    "contrast": Operation(colour.contrast, 0.9, 0.99, signed=True),
    "sharpness": Operation(colour.sharpen, 0.9, 0.99, signed=True),
    "posterize": Operation(colour.posterize, 4, 6),
    "solarize": Operation(colour.solarize, 255, 255),
    "auto_contrast": Operation(auto_contrast),
    "equalize": Operation(equalize),
}
