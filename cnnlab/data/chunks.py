"""Images to predict, a chunk at a time by processes beside this one, which decode and, if they can, predict.

Processes and not threads: of a small picture most of the decoding is Pillow's Python, which threads do in turns.
A chunk is as large for ten images as for a million, and few are under way at once: so is the memory.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from cnnlab.data.dataset import Unlabelled
from cnnlab.data.files import explain_broken
from cnnlab.data.pictures import say_framed, take_framed
from cnnlab.data.resize import crop_five, crop_square
from cnnlab.errors import DataError
from cnnlab.threads import die_with_parent, num_cores

MAX_IMAGES = 500  # in a chunk
MAX_BYTES = 32 << 20
SKIPPED = -np.inf  # all scores of a picture that could not be decoded, which no network gives


class Framing(NamedTuple):
    """What is cut out of a picture: squares of `size` once its shorter side is `shorter` pixels long."""

    size: int
    shorter: int

    def cut(self, picture: np.ndarray, corners: bool) -> np.ndarray:
        """uint8 (H, W, C) → (crops, size, size, C): the centre, and with `corners` the four corners too."""
        if corners:
            return crop_five(picture, self.size, self.shorter)
        return crop_square(picture, self.size, self.shorter)[np.newaxis]


def choose_chunk_size(framings: Sequence[Framing], corners: bool) -> int:
    """How many images make a chunk: the same for the same arguments, so that an interrupted series can go on."""
    num_crops = 5 if corners else 1
    num_bytes = sum(num_crops * 3 * framing.size**2 for framing in framings)  # of an image
    return max(1, min(MAX_IMAGES, MAX_BYTES // num_bytes))


def map_chunks(
    predict: Callable[[list[np.ndarray]], np.ndarray],
    images: Unlabelled,
    framings: Sequence[Framing],
    corners: bool,
    start: int = 0,
    *,
    beside: bool,
    skip: bool = False,
    num_scores: int = 0,
) -> Iterator[np.ndarray]:
    """What `predict` says of chunk after chunk of the images from `start`.

    It is handed the crops for each framing, uint8 (N, crops, size, size, C). With `beside` the processes that decode
    predict too, each with one thread; else this one does, as it must where that needs the device. Raises DataError
    naming the pictures of a chunk that cannot be decoded; with `skip` their rows, of `num_scores`, are `SKIPPED`.
    """
    chunks = _Chunks(images, framings, corners, start, predict if beside else _as_it_is)
    # A chunk alone is decoded here and now. Where processes cannot be forked off, so are all.
    num_workers = min(num_cores(), len(chunks)) if sys.platform == "linux" and len(chunks) > 1 else 0
    loader = DataLoader(
        chunks,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,  # arrays and not tensors, which would need shared memory, short in containers
        multiprocessing_context="fork" if num_workers else None,
        worker_init_fn=partial(_begin_beside, os.getpid()),
    )
    framed: list[Path] = []
    for result, num_images, broken, some in loader:
        framed += some
        if broken and not skip:
            raise DataError(explain_broken(list(broken.values()), "--on-bad-image skip"))
        if result is not None and not beside:
            result = predict(result)
        if broken:
            rows = np.full((num_images, num_scores), SKIPPED)
            if result is not None:
                rows[[index for index in range(num_images) if index not in broken]] = result
            result = rows
        yield result
    say_framed(framed)


class _Chunks(Dataset):
    def __init__(
        self,
        images: Unlabelled,
        framings: Sequence[Framing],
        corners: bool,
        start: int,
        finish: Callable[[list[np.ndarray]], Any],
    ):
        self.images, self.framings, self.corners, self.finish = images, framings, corners, finish
        self.scales = {framing.shorter for framing in framings}
        self.size = choose_chunk_size(framings, corners)
        self.starts = range(start, len(images), self.size)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> tuple[Any, int, dict[int, str], list[Path]]:
        """Of a chunk what `finish` makes of the crops for each framing, and how many images there are.

        And which of them could not be decoded, and why; and files with several frames.
        """
        start = self.starts[number]
        crops: list[list[np.ndarray]] = [[] for _ in self.framings]
        broken: dict[int, str] = {}
        num_images = min(self.size, len(self.images) - start)
        for index in range(num_images):
            try:
                pictures = {shorter: self.images.open(start + index, shorter) for shorter in self.scales}
            except DataError as error:
                broken[index] = str(error)
                continue
            for framing, cut in zip(self.framings, crops, strict=True):
                cut.append(framing.cut(pictures[framing.shorter], self.corners))
        result = None if len(broken) == num_images else self.finish([np.stack(cut) for cut in crops])
        return result, num_images, broken, take_framed()


def _begin_beside(parent: int, worker: int) -> None:
    die_with_parent(parent)
    gc.freeze()  # what was there before is not looked through for garbage, and its pages stay shared


def _as_it_is(chunk: Any) -> Any:
    return chunk
