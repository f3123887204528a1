"""From pixels to what a network reads: (x / 255 - mean) / std, and where mean and standard deviation come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cnnlab.data.dataset import ImageSet

# Of ImageNet's training pictures, as pretrained networks expect them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# As the course notes give them for CIFAR-10; its own are 0.491, 0.482, 0.447 and 0.247, 0.243, 0.262.
COURSE_MEAN, COURSE_STD = (0.4731, 0.4822, 0.4465), (0.2212, 0.1994, 0.2010)

NAMED = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "course": (COURSE_MEAN, COURSE_STD)}


@dataclass(frozen=True)
class Normalise:
    """Of pixels in 0…1 a mean and a standard deviation a channel; without them numbers stay as they are."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, H, W, C) → float32 (N, H, W, C), a product and a sum in one pass."""
        if self.mean is None or self.std is None:
            return pixels.to(torch.float32)
        _, _, width, channels = pixels.shape
        scale, shift = row_factors(self.mean, self.std, channels, width, pixels.device)
        rows = pixels.flatten(2).to(torch.float32)  # (N, H, W·C): channel by channel is several times slower
        return torch.addcmul(shift, rows, scale, out=rows).unflatten(2, (width, channels))

    def invert(self, images: Tensor) -> Tensor:
        """What a network reads, (N, C, H, W), as colours to look at: float32 (N, H, W, C) in 0…1, on the CPU."""
        colours = images.detach().float().cpu().permute(0, 2, 3, 1)
        if self.mean is None or self.std is None:
            return (colours / 255).clamp(0, 1)
        return (colours * torch.tensor(self.std) + torch.tensor(self.mean)).clamp(0, 1)


@lru_cache(16)
@torch.inference_mode(False)  # also for a first call in an evaluation: training uses them too
def row_factors(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a row of pixels is multiplied by, and what is added: float32 (W·C,). One number serves all channels."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.expand(channels).repeat(width), shift.expand(channels).repeat(width)


def measure_pixels(images: ImageSet, indices: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the chosen images, of pixels in 0…1.

    Of packed images all pixels count, not only those in the centre.
    """
    # Counting how often each of the 256 values occurs is exact and needs no floating-point copy.
    histograms = torch.zeros(images.store.channels, 256, dtype=torch.float64)
    for pixels in images.store.pieces(indices):
        for channel, histogram in enumerate(histograms):
            histogram += torch.bincount(pixels[..., channel].flatten().int(), minlength=256)
    share = histograms / histograms.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
    std[std == 0] = 1.0  # a channel of one colour stays as it is
    return tuple(mean.tolist()), tuple(std.tolist())
