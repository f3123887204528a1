"""What is cut out of each image, before the augmentations of pixels; the store of the images does the cutting.

A crop is an augmentation that is handed `sizes` instead of images: heights and widths, int64 (N, 2), and the same
`draw`. It returns boxes, int64 (N, 4): top, left, height, width; each is cut out and resized to a square. In YAML it
stands among the other augmentations and comes first wherever it stands; there can be one:

    random_resized_crop: {scale: [0.08, 1]}
    flip: {}

Without one, and in every evaluation, the centre of `image_size` pixels is cut out as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnnlab.data.registry import CROPS, Draw
from cnnlab.signature import Interval, Positive, Share

TRIES = 10  # boxes drawn for each image, of which the first that fits is taken


@CROPS.register
def random_resized_crop(
    sizes: Tensor, draw: Draw, *, scale: Interval[Share] = (0.08, 1.0), ratio: Interval[Positive] = (3 / 4, 4 / 3)
) -> Tensor:
    """A box of a random share (`scale`) of the image's area and of random width to height (`ratio`), resized.

    The distribution is that of torchvision's RandomResizedCrop: ten tries, the logarithm of the ratio uniform, then
    the largest box in the centre that keeps the ratio. Szegedy et al., "Going deeper with convolutions"
    (arXiv:1409.4842).
    """
    numbers = draw(2 * TRIES + 2)
    heights, widths = sizes[:, :1], sizes[:, 1:]  # (N, 1)
    area = heights * widths * (scale[0] + (scale[1] - scale[0]) * numbers[:, :TRIES])  # (N, tries)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * numbers[:, TRIES:-2]).exp()
    tried = torch.stack([(area / aspect).sqrt().round(), (area * aspect).sqrt().round()], 2)  # (N, tries, 2)
    fits = ((tried > 0) & (tried <= sizes.unsqueeze(1))).all(2)
    first = fits.int().argmax(1).view(-1, 1, 1).expand(-1, 1, 2)
    chosen = tried.gather(1, first).squeeze(1).long()  # (N, 2)

    shape = widths / heights
    narrow = torch.cat([(widths / ratio[0]).round().long(), widths], 1)
    wide = torch.cat([heights, (heights * ratio[1]).round().long()], 1)
    largest = torch.where(shape < ratio[0], narrow, torch.where(shape > ratio[1], wide, sizes))

    found = fits.any(1, keepdim=True)
    start = torch.where(found, (numbers[:, -2:] * (sizes - chosen + 1)).long(), (sizes - largest) // 2)
    return torch.cat([start, torch.where(found, chosen, largest)], 1)


def centre(sizes: Tensor, size: int) -> Tensor:
    """Boxes in the middle, rounded as torchvision's CenterCrop rounds."""
    start = ((sizes - size) / 2).round().long()
    return torch.cat([start, torch.full_like(start, size)], 1)
