"""Colours: what the values of a pixel become, wherever it stands. Functions of uint8 images (N, H, W, C).

The arithmetic is torchvision's. Brightness, contrast, saturation and hue are those of its images in floating point:
one after the other, each result clamped, the last one rounded. The others are those of its uint8 images. With one
channel there is neither saturation nor hue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.data.registry import AUGMENTS, Draw
from cnnlab.signature import Fraction, NonNegative, Range

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LUMA = (0.2989, 0.587, 0.114)  # how much of a pixel's grey comes from red, green and blue (ITU-R BT.601)
CHUNK = 3 << 17  # values that a CPU works on at a time, so that they stay in its cache from step to step

HalfTurn = Annotated[float, Range(at_least=0, at_most=0.5)]


@AUGMENTS.register
def color_jitter(
    images: Tensor,
    draw: Draw,
    *,
    brightness: NonNegative = 0.4,
    contrast: NonNegative = 0.4,
    saturation: NonNegative = 0.4,
    hue: HalfTurn = 0.0,
) -> Tensor:
    """Change brightness, contrast and saturation by up to these shares, hue by up to these turns, in any order.

    Factors and order are drawn for each image (Howard, arXiv:1312.5402); 0 switches an operation off.
    """
    reach = torch.tensor([brightness, contrast, saturation, hue])
    lowest = torch.cat([(1 - reach[:HUE]).clamp(min=0), -reach[HUE:]])
    highest = torch.cat([1 + reach[:HUE], reach[HUE:]])
    operations = reach.nonzero().flatten()
    if images.shape[-1] == 1:
        operations = operations[operations < SATURATION]
    if len(operations) == 0:
        return images
    has_hue = bool((operations == HUE).any())
    numbers = draw(8)
    lowest, highest, operations = (tensor.to(numbers.device) for tensor in (lowest, highest, operations))
    factors = lowest + numbers[:, :4] * (highest - lowest)
    order = operations[numbers[:, 4 : 4 + len(operations)].argsort(1)]  # (N, operations)
    return adjust(images, factors, order, has_hue)


@AUGMENTS.register
def grayscale(images: Tensor, draw: Draw, *, p: Fraction = 0.1) -> Tensor:
    """Take the colour out of an image with probability `p`."""
    if images.shape[-1] == 1:
        return images
    images = images.clone()
    apply_to(draw(1)[:, 0] < p, images, to_grey)
    return images


# --- Brightness, contrast, saturation, hue ------------------------------------------------------------


def adjust(images: Tensor, factors: Tensor, order: Tensor, has_hue: bool) -> Tensor:
    """`order` (N, operations) says which operation each image undergoes first, second, …; `factors` (N, 4) how far.

    Contrast 1.2 is 1.2 · image - 0.2 · its mean grey, saturation 1.2 is 1.2 · image - 0.2 · its greys; brightness
    multiplies. Hue turns by -0.5…0.5 of a circle; `has_hue` says whether it is among them. Results are clamped after
    each, and rounded after the last.
    """
    adjusted = torch.empty_like(images)
    channels = images.shape[3]
    weights = factors.new_tensor(LUMA if channels == 3 else [1.0])  # of the channels in a grey
    if images.device.type == "cpu":
        size = max(1, CHUNK // images[0].numel()) * torch.get_num_threads()
    else:
        size = len(images)
    # What rounds the last result; if its hue is not turned after that, it is part of the last product.
    halves = [0.0] * (order.shape[1] - 1) + [0.0 if has_hue else 0.5]
    chunks = (tensor.split(size) for tensor in (images, factors, order, *_blend(factors, order, weights), adjusted))
    for chunk, factor, which, colours, towards_mean, target in zip(*chunks, strict=True):
        # Planes of one channel each: arithmetic on neighbours in memory is many times faster.
        planes = chunk.flatten(1, 2).transpose(1, 2)  # (n, C, H·W)
        planes = planes.to(torch.float32, memory_format=torch.contiguous_format)
        spare = torch.empty_like(planes)
        for number, half in enumerate(halves):
            shift = (planes.mean(2) @ weights * towards_mean[:, number] + half).view(-1, 1, 1)
            planes, spare = torch.baddbmm(shift, colours[:, number], planes, out=spare).clamp_(0, 255 + half), planes
            if has_hue:
                apply_to(which[:, number] == HUE, planes, _turn_hue, factor[:, HUE])
        if has_hue:
            planes.add_(0.5)
        values = planes.to(torch.int32).to(torch.uint8)  # by way of int32 it takes half the time
        torch.stack(values.unbind(1), dim=-1, out=target.view(len(chunk), -1, channels))
    return adjusted


def _blend(factors: Tensor, order: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Each operation as a product of matrices: pixel → colours · pixel + towards_mean · mean grey.

    Brightness, contrast and saturation blend an image with black, its mean grey, its greys; hue changes nothing here.
    Returns `colours` (N, operations, C, C) and `towards_mean` (N, operations).
    """
    factor = factors.gather(1, order).masked_fill_(order == HUE, 1)  # (N, operations)
    rest = 1 - factor
    unit = torch.eye(len(weights), device=factors.device)
    colours = factor[..., None, None] * unit + (rest * (order == SATURATION))[..., None, None] * weights
    return colours, rest * (order == CONTRAST)


def luma(planes: Tensor) -> Tensor:
    """The grey of each pixel, a whole number: (C, …) → (…), for one channel or three."""
    if len(planes) == 1:
        return planes[0].clone()
    red, green, blue = planes
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).floor_()


def _turn_hue(planes: Tensor, turns: Tensor) -> Tensor:
    """Turn the colours of `planes` (n, 3, pixels) around the circle of hues; `turns` (n,).

    Hue runs from 0 at red through 2 at green and 4 at blue to 6, red again. Masks are numbers 0 and 1 here,
    since torch chooses elements several times slower than it multiplies.
    """
    red, green, blue = planes.unbind(1)  # (n, pixels)
    top, bottom = torch.maximum(red, green).maximum(blue), torch.minimum(red, green).minimum(blue)
    spread = top - bottom
    divisor = spread.masked_fill(spread == 0, 1)  # there is no hue, and what is divided is 0
    hue = (red - green).div_(divisor).add_(4)  # if blue is the strongest
    hue.lerp_((blue - red).div_(divisor).add_(2), (green - top).sign_().add_(1))
    hue.lerp_((green - blue).div_(divisor), (red - top).sign_().add_(1))
    hue.add_(6 * turns.unsqueeze(1))
    hue.sub_((hue / 6).floor_(), alpha=6)
    turned = torch.empty_like(planes)
    turned[:, 0] = (hue - 3).abs_().sub_(1).clamp_(0, 1)  # red: full next to 0 and 6, nothing from 2 to 4
    turned[:, 1] = (hue - 2).abs_().neg_().add_(2).clamp_(0, 1)
    turned[:, 2] = hue.sub_(4).abs_().neg_().add_(2).clamp_(0, 1)
    return turned.mul_(spread.unsqueeze(1)).add_(bottom.unsqueeze(1))


def brighten(images: Tensor, change: Tensor) -> Tensor:
    """Brightness 1 + `change` (N,)."""
    return (images * _per_image(1 + change)).add_(0.5).clamp_(0, 255).to(torch.uint8)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Contrast 1 + `change` (N,)."""
    return _adjust_one(images, CONTRAST, change)


def saturate(images: Tensor, change: Tensor) -> Tensor:
    """Saturation 1 + `change` (N,)."""
    return images if images.shape[-1] == 1 else _adjust_one(images, SATURATION, change)


def _adjust_one(images: Tensor, operation: int, change: Tensor) -> Tensor:
    factors = (1 + change).unsqueeze(1).expand(-1, 4)
    return adjust(images, factors, torch.full_like(change, operation, dtype=torch.long).unsqueeze(1), has_hue=False)


# --- Others -------------------------------------------------------------------------------------------


def to_grey(images: Tensor) -> Tensor:
    """Three channels of the same grey."""
    return luma(images.float().movedim(-1, 0)).to(torch.uint8).unsqueeze(-1).expand_as(images)


def sharpen(images: Tensor, change: Tensor) -> Tensor:
    """Sharpness 1 + `change` (N,): towards the image from a smoothed one, and beyond; the border stays."""
    if min(images.shape[1:3]) < 3:
        return images
    pixels = _as_planes(images)
    inner = pixels[:, :, 1:-1, 1:-1]
    smooth = F.avg_pool2d(pixels, 3, stride=1).mul_(9).add_(inner, alpha=4).div_(13).round_()  # centre 5, others 1
    inner.addcmul_(smooth.sub_(inner), _per_image(-change))
    return pixels.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def posterize(images: Tensor, dropped: Tensor) -> Tensor:
    """Set the last `dropped` (N,) of the eight bits of every value to 0."""
    mask = 256 - 2 ** dropped.round()
    return images & _per_image(mask).to(torch.uint8)


def solarize(images: Tensor, depth: Tensor) -> Tensor:
    """Invert the values from 255 - `depth` (N,) on."""
    threshold = (255 - depth).ceil().to(torch.uint8)
    return images ^ (images >= _per_image(threshold)).to(torch.uint8).mul_(255)


def auto_contrast(images: Tensor) -> Tensor:
    """Stretch each channel's values to 0…255; a channel of one value stays."""
    pixels = _as_planes(images)
    lowest, highest = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)  # (N, C, 1, 1)
    flat = lowest == highest
    unit = ((highest - lowest) * (1 / 255)).masked_fill_(flat, 1)
    stretched = pixels.sub_(lowest.masked_fill_(flat, 0)).div_(unit).clamp_(0, 255)
    return stretched.to(torch.uint8).permute(0, 2, 3, 1)


def equalize(images: Tensor) -> Tensor:
    """Spread each channel's values so that about as many pixels have each, by the rule of Pillow's ImageOps."""
    values = images.permute(0, 3, 1, 2).flatten(2).long()  # (N, C, H·W)
    ones = torch.ones_like(values)
    counts = values.new_zeros(*values.shape[:2], 256).scatter_add_(2, values, ones)
    below = counts.cumsum(2) - counts  # pixels with a smaller value
    num_highest = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - num_highest) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    spread = table.to(torch.uint8).gather(2, values)
    return spread.view(len(images), -1, *images.shape[1:3]).permute(0, 2, 3, 1)


# --- Batches ------------------------------------------------------------------------------------------


def apply_to(chosen: Tensor, images: Tensor, operate: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Replace the chosen ones (N,) of the images by `operate(images, *parameters)`, in place.

    A CPU computes these alone. To pick them out an accelerator would have to be waited for: there all are
    computed and the others thrown away.
    """
    if images.device.type != "cpu":
        images.copy_(torch.where(chosen.view(-1, *[1] * (images.dim() - 1)), operate(images, *parameters), images))
        return
    indices = chosen.nonzero().flatten()
    if len(indices) == len(images):
        images.copy_(operate(images, *parameters))
    elif len(indices) > 0:
        images[indices] = operate(images[indices], *(parameter[indices] for parameter in parameters))


def _as_planes(images: Tensor) -> Tensor:
    """float32 (N, C, H, W), each channel by itself in memory, where neighbours are worked on many times faster."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def _per_image(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)
