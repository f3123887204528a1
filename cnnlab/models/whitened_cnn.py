"""The network of Keller Jordan's 94 % in 3.29 A100-seconds, for 32×32 photographs; smaller ones for digits.

"94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, section 3.1. A 2×2 convolution whose filters are
the principal directions of the training images' patches (`model.init_from_data=whitening`), a block of 3×3
convolutions for each width, GELUs throughout, and a linear head on the maxima of the last map, its logits scaled down.
The batch normalisations shift and do not scale.

The paper's network for 96 % has three convolutions a block, the first passed on around the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.models.registry import MODELS
from cnnlab.signature import Count, Positive


class ConvolutionToPool(nn.Conv2d):
    """A 3×3 convolution that does not compute the last of an odd number of rows or columns, which pooling leaves out.

    Of 7×7 outputs that is a quarter, of 15×15 an eighth.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        odd_height, odd_width = (size % 2 for size in x.shape[2:])
        if not (odd_height or odd_width):
            return super().forward(x)
        return F.conv2d(F.pad(x, (1, 1 - odd_width, 1, 1 - odd_height)), self.weight)


class Block(nn.Module):
    """Convolution, pooling to a half, then more convolutions; with `residual` the first result goes around the rest."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, residual: bool):
        super().__init__()
        self.conv1 = ConvolutionToPool(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = shifting_norm(out_channels)
        self.gelu = nn.GELU()
        self.rest = nn.ModuleList(
            nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), shifting_norm(out_channels))
            for _ in range(depth - 1)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        x = around = self.gelu(self.norm1(self.pool(self.conv1(x))))
        for number, layer in enumerate(self.rest, start=1):
            x = layer(x)
            if self.residual and number == len(self.rest):
                x = x + around
            x = self.gelu(x)
        return x


class GlobalMaxPool(nn.Module):
    """The largest number of each map, (N, C, H, W) → (N, C, 1, 1).

    `nn.AdaptiveMaxPool2d(1)` gives the same, but on a GPU it is slower, and its gradient is not deterministic.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, x.shape[2:])


class WhitenedCNN(nn.Module):
    def __init__(
        self, num_classes: int, in_channels: int, widths: Sequence[int], depth: int, residual: bool, logit_scale: float
    ):
        super().__init__()
        num_patch = in_channels * 2 * 2  # numbers in a patch: a filter for each direction and one for its negative
        self.whiten = nn.Conv2d(in_channels, 2 * num_patch, 2)  # (N, 24, 31, 31)
        self.gelu = nn.GELU()
        self.blocks = nn.Sequential(
            *(
                Block(before, after, depth, residual)
                for before, after in zip((2 * num_patch, *widths), widths, strict=False)
            )
        )  # (N, 64, 15, 15), (N, 256, 7, 7), (N, 256, 3, 3)
        self.pool = GlobalMaxPool()
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        self.logit_scale = logit_scale

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.gelu(self.whiten(images))))
        return self.head(x.flatten(1)) * self.logit_scale


def shifting_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation whose scale stays 1; the convolution after it scales."""
    norm = nn.BatchNorm2d(channels, eps=1e-12)
    norm.weight.requires_grad_(False)
    return norm


@MODELS.register
def whitened_cnn(
    *,
    num_classes: int,
    in_channels: int,
    widths: tuple[Count, ...] = (64, 256, 256),
    depth: Count = 2,
    residual: bool = False,
    logit_scale: Positive = 0.111,
) -> nn.Module:
    """A block of `depth` convolutions for each of `widths`, after a whitening layer (arXiv:2404.00498)."""
    return WhitenedCNN(num_classes, in_channels, widths, depth, residual, logit_scale)
