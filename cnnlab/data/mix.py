"""What makes one image of two: the last thing that happens to a batch, after its normalisation.

Each is handed float images (N, H, W, C), their partners, and a generator of random numbers that depends only on the
seed, the epoch and the number of the batch. It returns the mixed images and the share of the first of two, the same
for the whole batch, by which its labels count (see `Mixed` in `cnnlab.tasks`).

The partner of an image is the next one of the batch, that of the last one the first. The papers permute the batch;
since its order is new in each epoch, the next image is any other with equal chance, and a process that works on a
slice of the batch needs one image more than its own.

In YAML they stand beside the augmentations. Where there are several, chance decides for each batch:

    mixup: {alpha: 0.2}
    cutmix: {alpha: 1.0}
"""

from __future__ import annotations

from math import sqrt
from random import Random

from torch import Tensor

from cnnlab.data.registry import MIXES
from cnnlab.signature import Fraction, Positive


@MIXES.register
def mixup(
    images: Tensor, partners: Tensor, rng: Random, *, alpha: Positive = 0.2, p: Fraction = 1.0
) -> tuple[Tensor, float]:
    """λ · image + (1 - λ) · its partner, λ from Beta(alpha, alpha), in a batch with probability `p`.

    Zhang et al., "mixup: Beyond empirical risk minimization" (arXiv:1710.09412).
    """
    if rng.random() >= p:
        return images, 1.0
    weight = rng.betavariate(alpha, alpha)
    return partners.lerp(images, weight), weight


@MIXES.register
def cutmix(
    images: Tensor, partners: Tensor, rng: Random, *, alpha: Positive = 1.0, p: Fraction = 1.0
) -> tuple[Tensor, float]:
    """Paste a rectangle of its partner into each image, in a batch with probability `p`.

    Its share of the area is 1 - λ, λ from Beta(alpha, alpha), its centre anywhere; what reaches over the edge is
    lost, and labels count by the area that remains. Yun et al., "CutMix" (arXiv:1905.04899).
    """
    if rng.random() >= p:
        return images, 1.0
    _, height, width, _ = images.shape
    side = sqrt(1 - rng.betavariate(alpha, alpha))  # as a share of the image's
    rows = place_span(rng, height, int(height * side))
    columns = place_span(rng, width, int(width * side))
    mixed = images.clone()
    mixed[:, rows, columns] = partners[:, rows, columns]
    pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - pasted / (height * width)


def place_span(rng: Random, length: int, size: int) -> slice:
    """`size` pixels around one of `length`, what is over the edge cut off."""
    start = rng.randrange(length) - size // 2
    return slice(max(0, start), max(0, min(length, start + size)))
