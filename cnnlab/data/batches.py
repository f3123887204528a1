"""From images to the batches of an epoch, as a function of (epoch, batch number).

The images lie once, as uint8, on the device that computes, or packed in a file (`pack.py`) if they are large. A batch
is gathered by index or cut out, augmented, and only then becomes floating point, normalised, and mixed where that is
asked for. Nothing is remembered from one batch to the next: asking for batch 700 of epoch 3 gives the same images
whatever was asked before, which is what makes resuming in the middle of an epoch exact.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from random import Random
from typing import Literal

import torch
from torch import Tensor

from cnnlab.data.crops import cut, image_sizes, take_centres
from cnnlab.data.pack import PackedImages
from cnnlab.data.registry import Draw, ImageSet
from cnnlab.runtime import derive_seed, worker_threads
from cnnlab.tasks import Labels, mix_labels

Augmentation = Callable[[Tensor, Draw], Tensor]  # images or sizes, draw → images or boxes
Mix = Callable[[Tensor, Tensor, Random], tuple[Tensor, float]]  # see `mix.py`
Sampling = Literal["shuffled", "balanced"]


class Batches:
    """Some of the images of a set, in batches of `batch_size`; the last one may be smaller.

    Images come in channels_last memory, as they lie, unless `channels_last` is false.

    With `seed` the order is new in each epoch, `crop` chooses what is cut out of each image, `augmentations`
    apply (by name; the name is part of their random stream, so that adding one changes no other), then one of
    `mixes` to each batch. Without, the order is that of `indices` and images are their centres. Without `mean`
    and `std` the numbers stay as they are.

    `sampling` "shuffled" takes each image once an epoch; "balanced" draws as many, with replacement, such that
    each class is as likely as any other.
    """

    def __init__(
        self,
        images: ImageSet,
        indices: Tensor,
        batch_size: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        *,
        seed: int | None = None,
        sampling: Sampling = "shuffled",
        crop: Augmentation | None = None,
        augmentations: Mapping[str, Augmentation] | None = None,
        mixes: Mapping[str, Mix] | None = None,
        channels_last: bool = True,
    ):
        device = images.labels.device
        self.images = images
        self.indices = indices.to(images.images.device)
        self.batch_size = batch_size
        self.num_examples = len(indices)
        self.mean = None if mean is None else tuple(mean)
        self.std = None if std is None else tuple(std)
        self.seed = seed
        self.sampling = sampling
        self.crop = crop
        self.augmentations = augmentations or {}
        self.mixes = mixes or {}
        self.channels_last = channels_last
        # (x / 255 - mean) / std as one product and one sum.
        if mean is None or std is None:
            scale, shift = [1.0], [0.0]
        else:
            scale, shift = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
        self._rank, self._num_processes = 0, 1
        self._scale, self._shift = torch.tensor(scale, device=device), torch.tensor(shift, device=device)
        self._epoch: int | None = None
        self._places = torch.arange(self.num_examples, device=device)
        self._order = self.indices
        self._draws: dict[tuple[str, int], Tensor] = {}
        self._ahead: tuple[tuple[int, int], Future[Tensor]] | None = None

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.num_examples // self.batch_size)

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Labels]:
        """Images float32 (N, C, H, W), normalised, and their labels."""
        if self.seed is not None and epoch != self._epoch:
            self._shuffle(epoch)
        positions, device = self._positions(number), self.images.labels.device
        pixels = self._take(epoch, number).to(device, non_blocking=True)  # (N, H, W, C)
        for name, augmentation in self.augmentations.items():
            pixels = augmentation(pixels, self._draw(name, positions, device))
        _, _, width, channels = pixels.shape
        rows = pixels.flatten(2).to(torch.float32)  # (N, H, W·C): channel by channel is several times slower
        rows = rows.mul_(self._scale.expand(channels).repeat(width)).add_(self._shift.expand(channels).repeat(width))
        images = rows.unflatten(2, (width, channels))
        labels: Labels
        labels = plain = self.images.labels.index_select(0, self._order[positions].to(device, non_blocking=True))
        if self.mixes:
            images, labels = self._mix(images, plain, number)
        if self._num_processes > 1:
            share = self._share(number)
            own = slice(share.start - positions.start, share.stop - positions.start)
            images, labels = images[own], labels[own]
        images = images.permute(0, 3, 1, 2)
        return images if self.channels_last else images.contiguous(), labels

    def places(self, epoch: int, number: int) -> Tensor:
        """Of each image of this share of a batch its place in `indices`, int64 (N,)."""
        if self.seed is not None and epoch != self._epoch:
            self._shuffle(epoch)
        return self._places[self._share(number)]

    @property
    def labels(self) -> Tensor:
        """Of all images, in the order of `indices`."""
        return self.images.labels[self.indices.to(self.images.labels.device)]

    @property
    def shows_alike(self) -> bool:
        """Whether an image looks the same in every epoch."""
        return self.crop is None and not self.augmentations and not self.mixes

    def divided(self, rank: int, num_processes: int) -> Batches:
        """The same batches, of each the share of process `rank`: side by side the shares are the whole batch.

        They differ by one image where a batch does not divide evenly; of fewer images than processes some have none.
        """
        share = copy.copy(self)
        share._rank, share._num_processes = rank, num_processes
        share._draws, share._epoch, share._ahead = {}, None, None
        return share

    def in_order(self) -> Batches:
        """The same images without shuffling and augmentation, as an evaluation looks at them."""
        plain = copy.copy(self)
        plain.seed, plain.crop, plain.augmentations, plain.mixes = None, None, {}, {}
        plain._order, plain._ahead = self.indices, None
        plain._places = torch.arange(self.num_examples, device=self.images.labels.device)
        plain._rank, plain._num_processes = 0, 1
        return plain

    def each_once(self) -> Batches:
        """The same images under the same augmentations, each once in an epoch, in whole batches."""
        others = copy.copy(self)
        others.sampling, others._epoch, others._draws, others._ahead = "shuffled", None, {}, None
        others._rank, others._num_processes = 0, 1
        return others

    def of_others(self, images: ImageSet) -> Batches:
        """Other images, made into batches as an evaluation makes these."""
        others = self.in_order()
        others.images, others.num_examples = images, len(images)
        others.indices = others._order = torch.arange(len(images), device=self.indices.device)
        others._places = others.indices.to(images.labels.device)
        return others

    def _positions(self, number: int) -> slice:
        """Of the images that are made for a batch, in the order of the epoch.

        This process's share; where images are mixed the whole batch, of which each may need the next; at least one.
        """
        whole, share = self._whole(number), self._share(number)
        if self.mixes:
            return whole
        return share if share.start < share.stop else slice(whole.start, whole.start + 1)

    def _whole(self, number: int) -> slice:
        start = number * self.batch_size
        return slice(start, min(start + self.batch_size, self.num_examples))

    def _share(self, number: int) -> slice:
        """Of the images of a batch that are this process's, in the order of the epoch."""
        whole = self._whole(number)
        each = (whole.stop - whole.start) / self._num_processes
        return slice(whole.start + math.ceil(self._rank * each), whole.start + math.ceil((self._rank + 1) * each))

    def _take(self, epoch: int, number: int) -> Tensor:
        """The uint8 images of a batch of the epoch under way, cut out.

        Where the processor cuts and another device computes, the next batch is begun meanwhile.
        """
        device = self.images.labels.device
        if device.type == "cpu" or not isinstance(self.images.images, PackedImages):
            return self._cut(number)()
        if self._ahead is not None and self._ahead[0] == (epoch, number):
            pixels = self._ahead[1].result()
        else:
            pixels = self._cut(number)()
        self._ahead = None
        if number + 1 < len(self):
            self._ahead = (epoch, number + 1), worker_threads(1).submit(self._cut(number + 1))
        return pixels.pin_memory() if device.type == "cuda" else pixels

    def _cut(self, number: int) -> Callable[[], Tensor]:
        """What gives the uint8 images (N, H, W, C) of a batch of the epoch under way, on any thread."""
        images, positions, num_threads = self.images.images, self._positions(number), torch.get_num_threads()
        indices = self._order[positions]
        if self.crop is None:
            return partial(take_centres, images, indices, num_threads)
        sizes = image_sizes(images, indices)
        return partial(cut, images, indices, self.crop(sizes, self._draw("crop", positions, sizes.device)), num_threads)

    def _mix(self, images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Labels]:
        """Images (N, H, W, C), each with the next one of the batch, by one of the mixes that chance picks."""
        assert self.seed is not None and self._epoch is not None
        rng = Random(derive_seed(self.seed, self._epoch, "mix", number))
        mix = self.mixes[rng.choice(sorted(self.mixes))]
        images, weight = mix(images, images.roll(-1, 0), rng)
        return images, mix_labels(labels, labels.roll(-1, 0), weight)

    def _stream(self, purpose: str) -> torch.Generator:
        """Always on the CPU: the same numbers whatever device computes."""
        assert self.seed is not None and self._epoch is not None
        return torch.Generator().manual_seed(derive_seed(self.seed, self._epoch, purpose))

    def _shuffle(self, epoch: int) -> None:
        self._epoch = epoch
        self._draws.clear()
        places = self._choose(self._stream("order"))
        self._places = places.to(self.images.labels.device)
        self._order = self.indices[places.to(self.indices.device)]

    def _choose(self, stream: torch.Generator) -> Tensor:
        """The places in `indices` that an epoch looks at, in their order."""
        if self.sampling == "shuffled":
            return torch.randperm(self.num_examples, generator=stream)
        labels = self.labels.cpu()
        likelihood = 1 / torch.bincount(labels).double()
        return torch.multinomial(likelihood[labels], self.num_examples, replacement=True, generator=stream)

    def _draw(self, name: str, positions: slice, device: torch.device) -> Callable[[int], Tensor]:
        """The `draw` of an augmentation: its numbers are drawn for the whole epoch when first asked for."""
        num_calls = 0

        def draw(num_values: int) -> Tensor:
            nonlocal num_calls
            key = (name, num_calls)
            num_calls += 1
            if key not in self._draws:
                shape = (self.num_examples, num_values)
                numbers = torch.rand(shape, generator=self._stream(f"augment {name} {key[1]}"))
                self._draws[key] = numbers.to(device)
            return self._draws[key][positions]

        return draw


def pixel_statistics(images: ImageSet, indices: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the chosen images, of pixels in 0…1.

    Of packed images all pixels count, not only those in the centre.
    """
    if isinstance(images.images, PackedImages):
        packed = images.images
        pieces = (torch.from_numpy(packed[index]) for index in indices.tolist())
        num_channels = packed.channels
    else:
        stored = images.images
        pieces = (stored[chunk.to(stored.device)].cpu() for chunk in indices.split(1024))
        num_channels = stored.shape[-1]
    # Counting how often each of the 256 values occurs is exact and needs no floating-point copy.
    histograms = torch.zeros(num_channels, 256, dtype=torch.float64)
    for pixels in pieces:
        for channel, histogram in enumerate(histograms):
            histogram += torch.bincount(pixels[..., channel].flatten().int(), minlength=256)
    share = histograms / histograms.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
    std[std == 0] = 1.0  # a channel of one colour stays as it is
    return tuple(mean.tolist()), tuple(std.tolist())
