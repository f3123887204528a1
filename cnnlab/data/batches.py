"""From images in memory to the batches of an epoch, as a function of (epoch, batch number).

The images lie once, as uint8, on the device that computes. A batch is gathered by index, augmented,
and only then becomes floating point. Nothing is remembered from one batch to the next: asking for
batch 700 of epoch 3 gives the same images whatever was asked before, which is what makes resuming in
the middle of an epoch exact.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from cnnlab.data.registry import ImageSet
from cnnlab.runtime import derive_seed

Augmentation = Callable[[Tensor, Callable[[int], Tensor]], Tensor]


class Batches:
    """Some of the images of a set, in batches of `batch_size`; the last one may be smaller.

    Images come in channels_last memory, as they lie, unless `channels_last` is false.

    With `seed` the order is new in each epoch and `augmentations` apply (by name; the name is part of
    their random stream, so that adding one changes no other). Without, the order is that of `indices`.
    Without `mean` and `std` the numbers stay as they are.
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
        augmentations: Mapping[str, Augmentation] | None = None,
        channels_last: bool = True,
    ):
        device = images.images.device
        self.images = images
        self.indices = indices.to(device)
        self.batch_size = batch_size
        self.num_examples = len(indices)
        self.mean = None if mean is None else tuple(mean)
        self.std = None if std is None else tuple(std)
        self.seed = seed
        self.augmentations = augmentations or {}
        self.channels_last = channels_last
        # (x / 255 - mean) / std as one product and one sum.
        if mean is None or std is None:
            scale, shift = [1.0], [0.0]
        else:
            scale, shift = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
        self._scale, self._shift = torch.tensor(scale, device=device), torch.tensor(shift, device=device)
        self._epoch: int | None = None
        self._order = self.indices
        self._draws: dict[tuple[str, int], Tensor] = {}

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.num_examples // self.batch_size)

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Images float32 (N, C, H, W), normalised, and their labels."""
        if self.seed is not None and epoch != self._epoch:
            self._shuffle(epoch)
        positions = slice(number * self.batch_size, (number + 1) * self.batch_size)
        indices = self._order[positions]
        pixels = self.images.images.index_select(0, indices)  # (N, H, W, C)
        for name, augmentation in self.augmentations.items():
            pixels = augmentation(pixels, self._draw(name, positions))
        images = pixels.to(torch.float32).mul_(self._scale).add_(self._shift).permute(0, 3, 1, 2)
        if not self.channels_last:
            images = images.contiguous()
        return images, self.images.labels.index_select(0, indices)

    def in_order(self) -> Batches:
        """The same images without shuffling and augmentation, as an evaluation looks at them."""
        plain = copy.copy(self)
        plain.seed, plain.augmentations, plain._order = None, {}, self.indices
        return plain

    def of_others(self, images: ImageSet) -> Batches:
        """Other images, made into batches as an evaluation makes these."""
        others = self.in_order()
        others.images, others.num_examples = images, len(images)
        others.indices = others._order = torch.arange(len(images), device=self.indices.device)
        return others

    def _stream(self, purpose: str) -> torch.Generator:
        """Always on the CPU: the same numbers whatever device computes."""
        assert self.seed is not None and self._epoch is not None
        return torch.Generator().manual_seed(derive_seed(self.seed, self._epoch, purpose))

    def _shuffle(self, epoch: int) -> None:
        self._epoch = epoch
        self._draws.clear()
        order = torch.randperm(self.num_examples, generator=self._stream("order"))
        self._order = self.indices[order.to(self.indices.device)]

    def _draw(self, name: str, positions: slice) -> Callable[[int], Tensor]:
        """The `draw` of an augmentation: its numbers are drawn for the whole epoch when first asked for."""
        num_calls = 0

        def draw(num_values: int) -> Tensor:
            nonlocal num_calls
            key = (name, num_calls)
            num_calls += 1
            if key not in self._draws:
                shape = (self.num_examples, num_values)
                numbers = torch.rand(shape, generator=self._stream(f"augment {name} {key[1]}"))
                self._draws[key] = numbers.to(self.indices.device)
            return self._draws[key][positions]

        return draw


def pixel_statistics(images: ImageSet, indices: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the chosen images, of pixels in 0…1."""
    # Counting how often each of the 256 values occurs is exact and needs no floating-point copy.
    histograms = torch.zeros(images.images.shape[-1], 256, dtype=torch.float64)
    for chunk in indices.split(1024):
        pixels = images.images[chunk.to(images.images.device)].cpu()
        for channel, histogram in enumerate(histograms):
            histogram += torch.bincount(pixels[..., channel].flatten().int(), minlength=256)
    share = histograms / histograms.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
    std[std == 0] = 1.0  # a channel of one colour stays as it is
    return tuple(mean.tolist()), tuple(std.tolist())
