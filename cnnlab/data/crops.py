"""What is cut out of each image, and the cutting: the stage before the augmentations of pixels.

A crop is an augmentation that is handed `sizes` instead of images: heights and widths, int64 (N, 2), and the same
`draw`. It returns boxes, int64 (N, 4): top, left, height, width; each is cut out and resized to a square. In YAML it
stands among the other augmentations and comes first wherever it stands; there can be one:

    random_resized_crop: {scale: [0.08, 1]}
    flip: {}

Without one, and in every evaluation, the centre of `image_size` pixels is cut out as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cnnlab.data.pack import PackedImages
from cnnlab.data.registry import CROPS, Draw
from cnnlab.runtime import worker_threads
from cnnlab.signature import Interval, Positive, Share

TRIES = 10  # boxes drawn for each image, of which the first that fits is taken
AT_ONCE = 16  # images that a thread cuts at a time


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


# --- Cutting ------------------------------------------------------------------------------------------


def image_sizes(images: Tensor | PackedImages, indices: Tensor) -> Tensor:
    """Heights and widths of some images, int64 (N, 2)."""
    if isinstance(images, PackedImages):
        return images.sizes(indices)
    return torch.tensor(images.shape[1:3], device=images.device).expand(len(indices), 2)


def take_centres(images: Tensor | PackedImages, indices: Tensor, num_threads: int = 1) -> Tensor:
    """Some images as an evaluation looks at them, (N, H, W, C)."""
    if isinstance(images, PackedImages):
        return cut(images, indices, centre(images.sizes(indices), images.image_size), num_threads)
    return images.index_select(0, indices)


def cut(images: Tensor | PackedImages, indices: Tensor, boxes: Tensor, num_threads: int = 1) -> Tensor:
    """The boxes of some uint8 images, each resized to the square that images have: (N, H, W, C).

    Bilinear and antialiased. On the CPU `num_threads` share the images, with the same result whatever their number;
    on other devices it is two products of matrices for the whole batch, which differ by at most one level.
    """
    if not isinstance(images, PackedImages) and images.device.type != "cpu":
        return _cut_by_matrices(images.index_select(0, indices), boxes, images.shape[1])
    source = images if isinstance(images, PackedImages) else images.numpy()
    size, channels = (images.image_size, images.channels) if isinstance(images, PackedImages) else images.shape[2:]
    squares = torch.empty(len(indices), size, size, channels, dtype=torch.uint8)
    views = [
        torch.from_numpy(source[index][None, top : top + height, left : left + width])
        for index, (top, left, height, width) in zip(indices.tolist(), boxes.tolist(), strict=True)
    ]
    work = list(zip(views, squares.split(1), strict=True))

    @torch.inference_mode()  # whether the batch is made in it or not, which threads do not know
    def fill(some: Sequence[tuple[Tensor, Tensor]]) -> None:
        for box, square in some:
            if box.shape == square.shape:
                square.copy_(box)
            else:
                _resize_into(square.permute(0, 3, 1, 2), box.permute(0, 3, 1, 2))

    pieces = [work[begin : begin + AT_ONCE] for begin in range(0, len(work), AT_ONCE)]
    list(map(fill, pieces) if num_threads == 1 else worker_threads(num_threads).map(fill, pieces))
    return squares


def _resize_into(target: Tensor, source: Tensor) -> None:
    """What F.interpolate does with uint8 images (1, C, H, W), without the memory it takes for its result each time."""
    torch.ops.aten._upsample_bilinear2d_aa.out(source, target.shape[2:], False, out=target)


def _cut_by_matrices(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """`images` are (N, H, W, C), one a box."""
    rows = _weights(boxes[:, 0], boxes[:, 2], images.shape[1], size)  # (N, size, H)
    columns = _weights(boxes[:, 1], boxes[:, 3], images.shape[2], size)  # (N, size, W)
    squares = torch.einsum("nyh,nhwc,nxw->nyxc", rows, images.float(), columns)
    return squares.round_().clamp_(0, 255).to(torch.uint8)


def _weights(start: Tensor, length: Tensor, full: int, size: int) -> Tensor:
    """How much each of `full` pixels counts in each of the `size` that a part of them becomes: (N, size, full)."""
    scale = (length / size).view(-1, 1, 1)
    centres = (torch.arange(size, device=start.device) + 0.5).view(1, -1, 1) * scale  # from the part's beginning
    pixels = torch.arange(full, device=start.device) - start.view(-1, 1, 1)
    weights = (1 - (pixels + 0.5 - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixels >= 0) & (pixels < length.view(-1, 1, 1)))
    return weights / weights.sum(2, keepdim=True)
