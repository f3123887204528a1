"""Augmentations that move pixels or cover them; colours are in `colour.py`, policies in `policies.py`, and what
makes one image of two in `mix.py`. All are plain functions of a batch, without Python per image.

Each is handed uint8 images (N, H, W, C) and `draw`, and returns such images. `draw(k)` gives uniform
numbers in [0, 1) of shape (N, k), a row an image, that depend only on the seed, the epoch and the
image's position in the epoch. In YAML an augmentation is a name with its arguments, in the order in
which they are applied:

    pad_crop: {padding: 4}
    flip: {}
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.data.registry import AUGMENTS, Draw
from cnnlab.data.resize import resize
from cnnlab.signature import Count, Fraction, NonNegative, Positive, Range

Grey = Annotated[int, Range(at_least=0, at_most=255)]
Edge = Literal["black", "reflect"]  # what lies beyond the edge of an image
Slant = Annotated[float, Range(at_least=0, at_most=89)]  # degrees

NUM_ATTEMPTS = 10  # at a rectangle that fits into the image


# --- Mirroring and shifting ---------------------------------------------------------------------------


@AUGMENTS.register
def flip(images: Tensor, draw: Draw, *, p: Fraction = 0.5) -> Tensor:
    """Mirror left to right, each image with probability `p`."""
    return _mirror(images, (draw(1) < p).view(-1, 1, 1, 1))


@AUGMENTS.register
def alternating_flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirror left to right in every other epoch; chance picks for each image whether in the even or the odd ones.

    Of two epochs in a row none shows an image twice the same (arXiv:2404.00498, section 3.6).
    """
    mirrored = (draw.once(1) < 0.5).view(-1, 1, 1, 1)
    return _mirror(images, mirrored if draw.epoch % 2 == 0 else ~mirrored)


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Those images mirrored for which `mirrored` (N, 1, 1, 1) is true."""
    # Bits are chosen by a mask, since torch.where is several times slower.
    bits, mask = images.view(torch.uint8), mirrored.to(torch.uint8) * 255
    return bits.flip(2).bitwise_xor_(bits).bitwise_and_(mask).bitwise_xor_(bits).view(images.dtype)


@AUGMENTS.register
def pad_crop(images: Tensor, draw: Draw, *, padding: Count = 4, edge: Edge = "black") -> Tensor:
    """Pad each side with `padding` pixels, black or the mirrored edge, and cut the original size out at random."""
    return _shift(images, draw, padding, edge)


@AUGMENTS.register
def translate(images: Tensor, draw: Draw, *, pixels: Count = 2, edge: Edge = "black") -> Tensor:
    """Move by up to `pixels` along each axis; black, or the mirrored edge, moves in. The same as `pad_crop`."""
    return _shift(images, draw, pixels, edge)


@AUGMENTS.register
def enlarge_crop(images: Tensor, draw: Draw, *, size: Count = 40) -> Tensor:
    """Enlarge to `size` pixels, no fewer than there are, and cut the original size out at a random place."""
    return _cut(resize(images, size), draw, images.shape[1], images.shape[2])


def _shift(images: Tensor, draw: Draw, reach: int, edge: Edge) -> Tensor:
    """Each image moved by -reach … reach pixels along each axis."""
    num_images, height, width, channels = images.shape
    if edge == "reflect":
        rows, columns = (reflect(side, reach, images.device) for side in (height, width))
        padded = images.index_select(1, rows).index_select(2, columns)
    else:
        padded = images.new_zeros(num_images, height + 2 * reach, width + 2 * reach, channels)
        padded[:, reach : reach + height, reach : reach + width] = images
    return _cut(padded, draw, height, width)


def _cut(images: Tensor, draw: Draw, height: int, width: int) -> Tensor:
    """From each of the larger images a part of this size, anywhere."""
    # Every window there is, as a view; one is taken for each image.
    windows = images.unfold(1, height, 1).unfold(2, width, 1)  # (N, down, across, C, H, W)
    start = _whole(draw(2), torch.tensor(windows.shape[1:3]))  # (N, 2): top, left
    each = torch.arange(len(images), device=images.device)
    return windows[each, start[:, 0], start[:, 1]].permute(0, 2, 3, 1)


def reflect(length: int, reach: int, device: torch.device) -> Tensor:
    """Indices of `length` pixels with `reach` more at both ends, mirrored at the outermost, which is not repeated."""
    period = max(1, 2 * (length - 1))
    indices = torch.arange(-reach, length + reach, device=device).remainder(period)
    return torch.minimum(indices, period - indices)


@AUGMENTS.register
def small_at_first(
    images: Tensor, draw: Draw, *, sizes: tuple[Count, ...] = (20, 26), epochs: tuple[Count, ...] = (3, 3)
) -> Tensor:
    """Progressive resizing: each of `sizes` (pixels a side) for as many `epochs`, then the size that the images have.

    An epoch of 20 pixels takes about 0.4 of the time of one of 32. For networks that take any size; evaluations are in
    full size. Stands after the other augmentations, whose pixels are those of full images.
    """
    remaining = draw.epoch
    for size, length in zip(sizes, epochs, strict=False):
        if remaining < length:
            return resize(images, size)
        remaining -= length
    return images


# --- Covering -----------------------------------------------------------------------------------------


@AUGMENTS.register
def cutout(images: Tensor, draw: Draw, *, size: Count = 8, fill: Grey = 0) -> Tensor:
    """Overwrite a square of `size` pixels around a random pixel with `fill`; it may reach over the edge.

    DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout"
    (arXiv:1708.04552).
    """
    start = _whole(draw(2), torch.tensor(images.shape[1:3])) - size // 2  # (N, 2): top, left
    return cover(images, start, torch.full_like(start, size), fill)


@AUGMENTS.register
def random_erasing(
    images: Tensor,
    draw: Draw,
    *,
    p: Fraction = 0.5,
    scale: tuple[Fraction, Fraction] = (0.02, 0.33),
    ratio: tuple[Positive, Positive] = (0.3, 3.3),
    fill: Grey = 0,
) -> Tensor:
    """Overwrite a rectangle inside the image with `fill`, in each image with probability `p`.

    Zhong et al., "Random erasing data augmentation" (arXiv:1708.04896), drawn as torchvision does: its share of the
    area is within `scale` and its height within `ratio` times its width. One that does not fit is drawn again, up to
    ten times. The paper fills with noise, torchvision with 0 after normalisation, which is the mean colour.
    """
    numbers = draw(3 + 2 * NUM_ATTEMPTS)
    start, size = choose_rectangles(numbers[:, 1:], images.shape[1], images.shape[2], scale, ratio)
    return cover(images, start, size * (numbers[:, :1] < p), fill)


def choose_rectangles(
    numbers: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Starts and sizes, both (N, 2), of rectangles inside an image, from uniform `numbers` (N, 2 + 2 · attempts).

    The size is 0 where no attempt fits.
    """
    sides = torch.tensor([height, width], device=numbers.device)
    shares, ratios = numbers[:, 2:].chunk(2, dim=1)  # (N, attempts)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * shares)
    ratios = torch.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * ratios)
    sizes = torch.stack([(area * ratios).sqrt(), (area / ratios).sqrt()], dim=2).round().long()  # (N, attempts, 2)
    fits = (sizes < sides).all(2)
    first = fits.byte().argmax(1, keepdim=True)  # of equals the first
    size = (sizes * fits.unsqueeze(2)).take_along_dim(first.unsqueeze(2), 1).squeeze(1)  # (N, 2)
    return _whole(numbers[:, :2], sides - size + 1), size


def cover(images: Tensor, start: Tensor, size: Tensor, fill: int) -> Tensor:
    """`images` with one rectangle each overwritten, from `start` (N, 2: top, left) on, `size` (N, 2) large."""

    def inside(axis: int, length: int) -> Tensor:
        places = torch.arange(length, device=images.device) - start[:, axis : axis + 1]  # counted from the edge
        return (places >= 0) & (places < size[:, axis : axis + 1])

    rows, columns = inside(0, images.shape[1]), inside(1, images.shape[2])
    rectangle = rows[:, :, None] & columns[:, None, :]  # (N, H, W)
    return images.masked_fill(rectangle.unsqueeze(-1), fill)


# --- Moving -------------------------------------------------------------------------------------------


@AUGMENTS.register
def rotate(images: Tensor, draw: Draw, *, degrees: NonNegative = 15.0, bilinear: bool = False) -> Tensor:
    """Rotate around the centre by up to `degrees` either way; corners that nothing reaches are black."""
    turns = torch.deg2rad(_both_ways(draw(1)[:, 0]) * degrees)
    return warp(images, invert_affine(turns), bilinear)


@AUGMENTS.register
def affine(
    images: Tensor,
    draw: Draw,
    *,
    degrees: NonNegative = 10.0,
    translate: Fraction = 0.1,
    scale: tuple[Positive, Positive] = (0.9, 1.1),
    shear: Slant = 0.0,
    bilinear: bool = False,
) -> Tensor:
    """Rotate by up to `degrees`, move by up to a share of the side, scale, slant by up to `shear` degrees; all at once.

    Slants and moves along both axes, each drawn for itself; what nothing reaches is black.
    """
    numbers = draw(6)
    turn, slant_x, slant_y, right, down = _both_ways(numbers[:, :5]).unbind(1)
    return warp(
        images,
        invert_affine(
            torch.deg2rad(turn * degrees),
            move=torch.stack([right * translate * images.shape[2], down * translate * images.shape[1]], 1).round(),
            scale=scale[0] + (scale[1] - scale[0]) * numbers[:, 5],
            slant=torch.deg2rad(torch.stack([slant_x, slant_y], 1) * shear).tan(),
        ),
        bilinear,
    )


def invert_affine(
    turn: Tensor, move: Tensor | None = None, scale: Tensor | None = None, slant: Tensor | None = None
) -> Tensor:
    """Where the pixels of an image that is slanted, rotated, scaled and moved, in this order, come from.

    (N, 2, 3), in pixels from the centre, x to the right and y down. `turn` (N,) in radians, clockwise; `move` (N, 2)
    in pixels; `slant` (N, 2): how far x is drawn back with y, and then y with x.
    """
    cos, sin = turn.cos(), turn.sin()
    inverse = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
    if scale is not None:
        inverse = inverse / scale.view(-1, 1, 1)
    if slant is not None:
        one, zero = torch.ones_like(turn), torch.zeros_like(turn)
        back_x = torch.stack([one, slant[:, 0], zero, one], 1).view(-1, 2, 2)
        back_y = torch.stack([one, zero, slant[:, 1], one], 1).view(-1, 2, 2)
        inverse = back_x @ back_y @ inverse
    start = torch.zeros_like(inverse[:, :, :1]) if move is None else -inverse @ move.unsqueeze(2)
    return torch.cat([inverse, start], 2)


def warp(images: Tensor, sources: Tensor, bilinear: bool) -> Tensor:
    """Each pixel from where `sources` (N, 2, 3) says, as `invert_affine` does: the nearest one, or between four."""
    num_images, height, width, channels = images.shape
    # affine_grid counts in half sides: multiply by what a column of the matrix is given, divide by what it gives.
    given = sources.new_tensor([width / 2, height / 2, 1])
    grid = F.affine_grid(
        sources * given / given[:2].unsqueeze(1), [num_images, channels, height, width], align_corners=False
    )
    pixels = images.permute(0, 3, 1, 2).float()
    moved = F.grid_sample(pixels, grid, "bilinear" if bilinear else "nearest", "zeros", align_corners=False)
    return moved.round_().to(torch.uint8).permute(0, 2, 3, 1)


# --- Numbers ------------------------------------------------------------------------------------------


def _both_ways(uniform: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) → in [-1, 1)."""
    return 2 * uniform - 1


def _whole(uniform: Tensor, num_values: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) → whole numbers in 0 … num_values - 1."""
    return (uniform * num_values.to(uniform.device)).long()
