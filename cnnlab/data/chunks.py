"""Images to predict, decoded a chunk at a time by processes beside the one that computes.

Processes and not threads: of a small picture most of the decoding is Pillow's Python, which threads do in turns.
A chunk is as large for ten images as for a million, and few are under way at once: so is the memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnlab.data.registry import Unlabelled
from cnnlab.data.resize import crop_five, crop_square
from cnnlab.errors import NUM_LISTED, DataError
from cnnlab.runtime import die_with_parent, num_cores

MAX_IMAGES = 500  # in a chunk
MAX_BYTES = 32 << 20


class Framing(NamedTuple):
    """What is cut out of a picture: squares of `size` once its shorter side is `shorter` pixels long."""

    size: int
    shorter: int

    def cut(self, picture: Tensor, corners: bool) -> Tensor:
        """uint8 (H, W, C) → (crops, size, size, C): the centre, and with `corners` the four corners too."""
        if corners:
            return crop_five(picture, self.size, self.shorter)
        return crop_square(picture, self.size, self.shorter).unsqueeze(0)


def choose_chunk_size(framings: Sequence[Framing], corners: bool) -> int:
    """How many images make a chunk: the same for the same arguments, so that an interrupted series can go on."""
    num_crops = 5 if corners else 1
    num_bytes = sum(num_crops * 3 * framing.size**2 for framing in framings)  # of an image
    return max(1, min(MAX_IMAGES, MAX_BYTES // num_bytes))


def stream_chunks(
    images: Unlabelled, framings: Sequence[Framing], corners: bool, start: int = 0
) -> Iterator[list[Tensor]]:
    """Chunk after chunk of the images from `start`: for each framing the crops, (N, crops, size, size, C).

    Raises DataError naming the pictures of a chunk that cannot be decoded.
    """
    chunks = _Chunks(images, framings, corners, start)
    # A chunk alone is decoded here and now. Where processes cannot be forked off, so are all.
    num_workers = min(num_cores(), len(chunks)) if sys.platform == "linux" and len(chunks) > 1 else 0
    loader = DataLoader(
        chunks,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,  # arrays and not tensors, which would need shared memory, short in containers
        multiprocessing_context="fork" if num_workers else None,
        worker_init_fn=lambda worker: die_with_parent(),
    )
    for crops, broken in loader:
        if broken:
            shown = "".join(f"\n  {reason}" for reason in broken[:NUM_LISTED])
            raise DataError(f"{len(broken)} pictures cannot be decoded; mend or remove them:{shown}")
        yield [torch.from_numpy(array) for array in crops]


class _Chunks(Dataset):
    def __init__(self, images: Unlabelled, framings: Sequence[Framing], corners: bool, start: int):
        self.images, self.framings, self.corners = images, framings, corners
        self.scales = {framing.shorter for framing in framings}
        self.size = choose_chunk_size(framings, corners)
        self.starts = range(start, len(images), self.size)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> tuple[list[np.ndarray], list[str]]:
        """The crops for each framing, and what could not be decoded."""
        start = self.starts[number]
        crops: list[list[np.ndarray]] = [[] for _ in self.framings]
        broken: list[str] = []
        for place in range(start, min(start + self.size, len(self.images))):
            try:
                pictures = {shorter: self.images.open(place, shorter) for shorter in self.scales}
            except DataError as error:
                broken.append(str(error))
                continue
            for framing, cut in zip(self.framings, crops, strict=True):
                cut.append(framing.cut(pictures[framing.shorter], self.corners).numpy())
        if broken:
            return [], broken
        return [np.stack(cut) for cut in crops], broken


def _as_it_is(chunk: Any) -> Any:
    return chunk
