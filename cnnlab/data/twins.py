"""Near-twins: the same picture again, encoded anew, scaled, made lighter or a little cropped.

A difference hash (which of two neighbours is lighter, on a grid of 9×8 grey pixels) finds candidates, the correlation
of small pictures decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_BITS = 8  # of the hash's 64, in which twins may differ
LEAST_CORRELATION = 0.97  # of pictures of 16×16 pixels
MAX_COMPARED = 100_000  # images, each of which is compared with all others
AT_ONCE = 2048  # images that are described at a time
CHUNK = 4096


class Twins(NamedTuple):
    """Two images, by their positions, and how alike they are: the correlation of their pixels."""

    first: int
    second: int
    similarity: float


def describe_images(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Hashes, ±1 (N, 64), and small pictures of mean 0 and norm 1, (N, 256·C), of uint8 images (N, H, W, C)."""
    colours = pixels.permute(0, 3, 1, 2).float()
    grid = F.interpolate(colours.mean(1, keepdim=True), (8, 9), mode="area")[:, 0]
    hashes = (grid[:, :, 1:] > grid[:, :, :-1]).flatten(1).float() * 2 - 1
    small = F.interpolate(colours, (16, 16), mode="area").flatten(1)
    small = small - small.mean(1, keepdim=True)
    return hashes, small / small.norm(dim=1, keepdim=True).clamp(min=1e-6)


def find_twins(pieces: Iterable[Tensor]) -> list[Twins]:
    """All pairs of near-twins among images, uint8 (N, H, W, C) in pieces, by their positions in all of them.

    The most alike come first; images of one colour have none.
    """
    described = [describe_images(pixels.cpu()) for pixels in pieces]
    if not described:
        return []
    hashes, small = (torch.cat(column) for column in zip(*described, strict=True))
    found: list[Twins] = []
    is_plain = small.norm(dim=1) < 0.5
    for start in range(0, len(hashes), CHUNK):
        agreement = hashes[start : start + CHUNK] @ hashes[start:].T  # 64 - 2 · bits that differ
        rows, columns = (agreement >= 64 - 2 * MAX_BITS).nonzero(as_tuple=True)
        first, second = rows + start, columns + start
        chosen = (first < second) & ~is_plain[first] & ~is_plain[second]
        first, second = first[chosen], second[chosen]
        for some, others in zip(first.split(CHUNK * 16), second.split(CHUNK * 16), strict=True):
            similarity = (small[some] * small[others]).sum(1)
            alike = similarity >= LEAST_CORRELATION
            columns_of = some[alike].tolist(), others[alike].tolist(), similarity[alike].tolist()
            found += [Twins(*pair) for pair in zip(*columns_of, strict=True)]
    return sorted(found, key=lambda twins: -twins.similarity)
