"""From images to the batches of an epoch, as a function of (epoch, batch number).

A batch is taken from the store by index or cut out, augmented, and only then becomes floating point, normalised, and
mixed where that is asked for. Nothing is remembered from one batch to the next: asking for batch 700 of epoch 3 gives
the same images whatever was asked before, which is what makes resuming in the middle of an epoch exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.dataset import ImageSet
from cnnlab.data.normalise import Normalise
from cnnlab.data.order import Sampling, Share, draw_order, random_stream
from cnnlab.data.registry import Draw
from cnnlab.data.store import hash_bytes
from cnnlab.seeds import derive_seed
from cnnlab.tasks import Labels, mix_labels
from cnnlab.threads import worker_threads

Crop = Callable[[Tensor, Draw], Tensor]  # sizes, draw → boxes: see `crops.py`
Augmentation = Callable[[Tensor, Draw], Tensor]  # images, draw → images: see `augment.py`
Mix = Callable[[Tensor, Tensor, Random], tuple[Tensor, float]]  # see `mix.py`
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Augment:
    """What happens to training images: one crop, then augmentations in their order, then one of the mixes a batch.

    Names are part of an augmentation's random stream, so that adding one changes no other.
    """

    crop: Crop | None = None
    augmentations: Mapping[str, Augmentation] = field(default_factory=dict)
    mixes: Mapping[str, Mix] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.crop or self.augmentations or self.mixes)


class Copies:
    """A tensor, and its copies on the devices where it was asked for."""

    def __init__(self, tensor: Tensor):
        self._on = {tensor.device: tensor}
        self._first = tensor

    def on(self, device: torch.device) -> Tensor:
        if device not in self._on:
            self._on[device] = self._first.to(device)
        return self._on[device]


class Epoch:
    """What chance has decided for an epoch: the order, and the numbers of each augmentation once they are asked for."""

    def __init__(self, number: int, seed: int | None, order: Tensor):
        self.number = number
        self.order = Copies(order)  # of each position which image, from 0: int64 (N,)
        self._seed = seed
        self._drawn: dict[str, Copies] = {}

    def draw(self, purpose: str, positions: slice, device: torch.device) -> Draw:
        """What an augmentation draws from for the images at some positions."""
        return _Draw(self, purpose, positions, device)

    def numbers(self, name: str, num_values: int, once: bool) -> Copies:
        """Uniform numbers in [0, 1) for all positions, (N, num_values); `once`: those of the images, in any epoch."""
        if name not in self._drawn:
            assert self._seed is not None, "nothing is drawn for images that come as they are"
            order = self.order.on(CPU)
            stream = random_stream(self._seed, 0 if once else self.number, name)
            drawn = torch.rand((len(order), num_values), generator=stream)
            self._drawn[name] = Copies(drawn[order] if once else drawn)
        return self._drawn[name]


class _Draw:
    """The `Draw` of one augmentation of one batch."""

    def __init__(self, epoch: Epoch, purpose: str, positions: slice, device: torch.device):
        self.epoch = epoch.number
        self._epoch, self._purpose, self._positions, self._device = epoch, purpose, positions, device
        self._num_calls = 0

    def __call__(self, num_values: int) -> Tensor:
        return self._take(f"{self._purpose} {self._num_calls}", num_values, once=False)

    def once(self, num_values: int) -> Tensor:
        return self._take(f"{self._purpose} {self._num_calls} once", num_values, once=True)

    def _take(self, name: str, num_values: int, once: bool) -> Tensor:
        self._num_calls += 1
        return self._epoch.numbers(name, num_values, once).on(self._device)[self._positions]


@dataclass(frozen=True, eq=False)
class Batches:
    """Some of the images of a set, in batches of `batch_size`; the last one may be smaller.

    With `seed` the order is new in each epoch and `augment` applies. Without, the order is that of `indices`, and
    images are shown as they are, their centres.
    """

    images: ImageSet
    indices: Tensor  # of the set, int64 (N,)
    batch_size: int
    normalise: Normalise = Normalise()
    seed: int | None = None
    sampling: Sampling = "shuffled"
    augment: Augment = Augment()
    share: Share = Share()
    # The last epoch asked for, the batch that is made ahead, the indices on devices: to save time alone.
    _memo: _Memo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_memo", _Memo(Copies(self.indices)))

    @property
    def num_examples(self) -> int:
        return len(self.indices)

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.num_examples // self.batch_size)

    @property
    def labels(self) -> Tensor:
        """Of all images, in the order of `indices`."""
        return self.images.labels[self.indices.to(self.images.labels.device)]

    # --- Batches ------------------------------------------------------------------------------------

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Labels]:
        """Images float32 (N, C, H, W), normalised, in channels_last memory, and their labels."""
        now, positions = self._epoch(epoch), self._positions(number)
        device = self.images.labels.device
        pixels = self._take(epoch, number).to(device, non_blocking=True)  # (N, H, W, C)
        for name, augmentation in self.augment.augmentations.items():
            pixels = augmentation(pixels, now.draw(f"augment {name}", positions, device))
        images = self.normalise(pixels)
        plain = self.images.labels.index_select(0, self._chosen(now, positions, device))
        labels: Labels = plain
        if self.augment.mixes:
            images, labels = self._mix(images, plain, epoch, number)
        own = self.share.of(self._whole(number))
        if own != positions:
            part = slice(own.start - positions.start, own.stop - positions.start)
            images, labels = images[part], labels[part]
        return images.permute(0, 3, 1, 2), labels

    def members(self, epoch: int, number: int) -> Tensor:
        """Which images a batch consists of, from 0 to `num_examples` - 1: int64 (N,), this process's share."""
        return self._epoch(epoch).order.on(self.images.labels.device)[self.share.of(self._whole(number))]

    def pixels(self, positions: Tensor) -> Tensor:
        """The images at some positions as an evaluation takes them, uint8 (N, H, W, C), where they lie."""
        store = self.images.store
        return store.take_centres(self.indices[positions].to(store.device))

    def names(self, positions: Iterable[int]) -> list[str]:
        """What the dataset calls the images at some positions."""
        return self.images.name(self.indices[list(positions)].tolist())

    def fingerprint(self) -> str:
        """Sixteen digits that are others for other images or labels, or another choice of them."""
        labels, store = self.images.labels.cpu().numpy(), self.images.store
        return hash_bytes(self.indices.cpu().numpy(), labels, np.frombuffer(store.digest, np.uint8)).hex()

    # --- Others of the same kind --------------------------------------------------------------------

    def divided(self, rank: int, num_processes: int) -> Batches:
        """The same batches, of each the share of process `rank`."""
        return replace(self, share=Share(rank, num_processes))

    def in_order(self) -> Batches:
        """The same images without shuffling and augmentation, as an evaluation takes them."""
        return replace(self, seed=None, augment=Augment(), share=Share())

    def each_once(self) -> Batches:
        """The same images under the same augmentations, each once in an epoch, in whole batches."""
        return replace(self, sampling="shuffled", share=Share())

    # --- How a batch is made ------------------------------------------------------------------------

    def _epoch(self, number: int) -> Epoch:
        number = number if self.seed is not None else 0  # all the same
        if self._memo.epoch is None or self._memo.epoch.number != number:
            order = draw_order(self.num_examples, self.seed, number, self.sampling, self.labels)
            self._memo.epoch = Epoch(number, self.seed, order)
        return self._memo.epoch

    def _chosen(self, epoch: Epoch, positions: slice, device: torch.device) -> Tensor:
        """Indices into the set of the images at some positions of an epoch."""
        return self._memo.indices.on(device)[epoch.order.on(device)[positions]]

    def _whole(self, number: int) -> slice:
        start = number * self.batch_size
        return slice(start, min(start + self.batch_size, self.num_examples))

    def _positions(self, number: int) -> slice:
        """Of the images that are made for a batch, in the order of the epoch.

        This process's share; where images are mixed the whole batch, of which each may need the next; at least one.
        """
        whole, share = self._whole(number), self.share.of(self._whole(number))
        if self.augment.mixes:
            return whole
        return share if share.start < share.stop else slice(whole.start, whole.start + 1)

    def _take(self, epoch: int, number: int) -> Tensor:
        """The uint8 images of a batch, cut out.

        Where the CPU cuts and another device computes, the next batch is begun meanwhile.
        """
        device = self.images.labels.device
        if device == self.images.store.device:
            return self._cut(epoch, number)()
        ahead, self._memo.ahead = self._memo.ahead, None
        if ahead is not None and ahead[0] == (epoch, number):
            pixels = ahead[1].result()
        else:
            pixels = self._cut(epoch, number)()
        if number + 1 < len(self):
            self._memo.ahead = (epoch, number + 1), worker_threads(1).submit(self._cut(epoch, number + 1))
        return pixels.pin_memory() if device.type == "cuda" else pixels

    def _cut(self, epoch: int, number: int) -> Callable[[], Tensor]:
        """What gives the uint8 images (N, H, W, C) of a batch, on any thread."""
        store, now, positions = self.images.store, self._epoch(epoch), self._positions(number)
        chosen, num_threads = self._chosen(now, positions, store.device), torch.get_num_threads()
        if self.augment.crop is None:
            return partial(store.take_centres, chosen, num_threads)
        boxes = self.augment.crop(store.sizes(chosen), now.draw("crop", positions, store.device))
        return partial(store.cut, chosen, boxes, num_threads)

    def _mix(self, images: Tensor, labels: Tensor, epoch: int, number: int) -> tuple[Tensor, Labels]:
        """Images (N, H, W, C), each with the next one of the batch, by one of the mixes that chance picks."""
        assert self.seed is not None, "images that come as they are are not mixed"
        rng = Random(derive_seed(self.seed, epoch, "mix", number))
        mix = self.augment.mixes[rng.choice(sorted(self.augment.mixes))]
        images, weight = mix(images, images.roll(-1, 0), rng)
        return images, mix_labels(labels, labels.roll(-1, 0), weight)


@dataclass
class _Memo:
    """What batches remember."""

    indices: Copies
    epoch: Epoch | None = None
    ahead: tuple[tuple[int, int], Future[Tensor]] | None = None
