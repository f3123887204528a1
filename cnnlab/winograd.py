"""3×3 convolutions by Winograd's minimal filtering, with a quarter of the products or less.

An image is cut into tiles of m×m outputs. A tile needs n×n inputs (n = m + 2), and its outputs follow from n² products
for each pair of channels instead of 9 m² (Lavin and Gray, arXiv:1509.09308):

    outputs = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ x B) ] A

where the products ⊙ are summed over the input channels. That is n² matrix products, of all tiles by all weights. The
matrices A, G and B are those of Toom and Cook: values of polynomials at n - 1 points and at infinity. The backward
pass is of the same kind, each matrix transposed.

Numbers are those of the convolution to rounding: ten times as much of it in float32, and for tiles of seven a hundred
times, a tenth of what products in tf32 lose. Half as many bits would be too few. What it costs is to transform tiles
and weights and to move them to and fro in memory: it wins with many channels, in large batches of small maps.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 4)
TILES = (2, 3, 4, 5, 6, 7)  # outputs on a side
MOVING = 50  # products whose time it takes to move a number of tiles or weights there and back
SMALL = 2  # times as long as others take products of a matrix so small as those that transform tiles
SHORT = 5  # width² at which direct convolutions take twice as long, whose registers hold pixels of a row
MIN_GAIN = 1.2  # of what is expected, for a convolution to be computed so
MAX_SCRATCH = 32 * 2**20  # bytes of the numbers that are at work at a time, which lie in caches then

_scratch = threading.local()


class WinogradConvolutions(TorchFunctionMode):
    """Inside, convolutions that are faster by Winograd's filtering are computed so; others as they are.

    A mode of torch and no layers of our own: networks, their exports and their averages know nothing of it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d:
            call = Call(*args, **kwargs)
            if call.is_faster():
                return convolve(call.input, call.weight, call.bias, as_pair(call.padding))
        return func(*args, **kwargs)


class Call(NamedTuple):
    """What torch.conv2d is called with."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] | str = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    def is_faster(self) -> bool:
        """Whether Winograd's filtering computes it, and is expected to be faster."""
        images, padding = self.input, self.padding
        if not is_plain(self.weight, self.stride, self.dilation, self.groups) or isinstance(padding, str):
            return False
        if images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return False
        if images.dim() != 4 or not len(images) or not images.is_contiguous(memory_format=torch.channels_last):
            return False
        height, width = find_size(images, as_pair(padding))
        return min(height, width) > 0 and expect_gain(self.weight, len(images), height, width) >= MIN_GAIN


def as_pair(value: int | Sequence[int] | str) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(map(int, value))


def find_size(images: Tensor, padding: tuple[int, ...]) -> tuple[int, int]:
    """Of the outputs, from images (N, C, H, W)."""
    height, width = (size + 2 * pad - 2 for size, pad in zip(images.shape[2:], padding, strict=True))
    return height, width


def is_plain(weight: Tensor, stride: int | Sequence[int], dilation: int | Sequence[int], groups: int) -> bool:
    """Whether it is a 3×3 convolution in float32 of all channels that leaves out nothing."""
    whole = (as_pair(stride), as_pair(dilation), groups) == ((1, 1), (1, 1), 1)
    return whole and weight.shape[2:] == (3, 3) and weight.dtype == torch.float32


def may_gain(model: nn.Module) -> bool:
    """Whether there is a convolution with so many channels that it may be faster so, in a large batch."""
    return any(
        isinstance(module, nn.Conv2d)
        and is_plain(module.weight, module.stride, module.dilation, module.groups)
        and expect_gain(module.weight, 1000, 28, 28) >= MIN_GAIN
        for module in model.modules()
    )


def expect_gain(weight: Tensor, num_images: int, height: int, width: int) -> float:
    """How many times as fast it is expected to be for outputs of a size."""
    num_outputs, num_inputs = weight.shape[:2]
    direct = 9 * num_images * height * width * num_inputs * num_outputs * (1 + SHORT / width**2)
    return direct / Tiling.choose(weight, num_images, height, width).cost(num_outputs, num_inputs, num_images)


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None = None, padding: tuple[int, ...] = (1, 1)) -> Tensor:
    """Images (N, C, H, W) by weights (K, C, 3, 3), float32: (N, K, H + 2 padding - 2, …), in channels_last memory."""
    outputs: Tensor = _Convolution.apply(images, weight, padding)
    return outputs if bias is None else outputs + bias.view(-1, 1, 1)


class Transforms(NamedTuple):
    """What tiles are multiplied by: each side's matrices as one, of (rows · columns) by (rows · columns)."""

    inputs: Tensor  # Bᵀ, (n², n²)
    weights: Tensor  # G, (n², 9)
    outputs: Tensor  # Aᵀ, (m², n²)


@cache
def make_transforms(tile: tuple[int, int]) -> Transforms:
    """For tiles of so many outputs, rows and columns."""
    with torch.inference_mode(False):
        sides = [derive_transforms(size) for size in tile]
        return Transforms(*(torch.tensor(np.kron(a, b), dtype=torch.float32) for a, b in zip(*sides, strict=True)))


def derive_transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bᵀ (n, n), G (n, 3) and Aᵀ (m, n) for m outputs, n = m + 2, from 3 weights: of Toom and Cook."""
    points = np.array(POINTS[: size + 1])
    others = [np.delete(points, i) for i in range(len(points))]
    inputs = np.zeros((size + 2, size + 2))
    for row, roots in enumerate(others):
        inputs[row, :-1] = np.poly(roots)[::-1]
    inputs[-1] = np.poly(points)[::-1]
    scale = np.array([np.prod(point - roots) for point, roots in zip(points, others, strict=True)])
    weights = np.vstack([np.vander(points, 3, increasing=True) / scale[:, None], [0, 0, 1]])
    outputs = np.hstack([np.vander(points, size, increasing=True).T, np.eye(size)[:, -1:]])
    return inputs, weights, outputs


class Tiling(NamedTuple):
    """How the outputs of an image are cut: rows and columns of tiles, each of so many outputs."""

    tile: tuple[int, int]
    rows: int
    columns: int

    @classmethod
    def choose(cls, weight: Tensor, num_images: int, height: int, width: int) -> Tiling:
        """For outputs of a size, the one that is expected to be the fastest."""
        return _choose(*weight.shape[:2], num_images, height, width)

    def cost(self, num_outputs: int, num_inputs: int, num_images: int) -> float:
        """How long a batch with so many channels is expected to take, in products of two numbers."""
        numbers, outputs = self.num_inputs, self.tile[0] * self.tile[1]
        of_inputs = num_inputs * numbers * (SMALL * numbers + MOVING)
        of_outputs = num_outputs * numbers * (SMALL * outputs + MOVING)
        of_weights = num_inputs * num_outputs * numbers * (SMALL * 9 + MOVING)
        of_tile = numbers * num_inputs * num_outputs + of_inputs + of_outputs
        return num_images * self.num_tiles * of_tile + of_weights

    @property
    def num_tiles(self) -> int:
        return self.rows * self.columns

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns that a tile takes in."""
        return self.tile[0] + 2, self.tile[1] + 2

    @property
    def num_inputs(self) -> int:
        return self.reach[0] * self.reach[1]

    @property
    def size(self) -> tuple[int, int]:
        """Of the outputs of all tiles, which may reach over those that are wanted."""
        return self.rows * self.tile[0], self.columns * self.tile[1]

    def divide(self, num_images: int, num_channels: int) -> Iterator[slice]:
        """Parts of a batch that caches hold, whose inputs and outputs have so many channels together."""
        # Tiles and products, 4 bytes a number, and as much on its way to or from them.
        size = max(1, MAX_SCRATCH // (8 * self.num_inputs * self.num_tiles * num_channels))
        return (slice(begin, begin + size) for begin in range(0, num_images, size))


@cache
def _choose(num_outputs: int, num_inputs: int, num_images: int, height: int, width: int) -> Tiling:
    tilings = (Tiling((a, b), -(-height // a), -(-width // b)) for a, b in product(TILES, TILES))
    return min(tilings, key=lambda tiling: tiling.cost(num_outputs, num_inputs, num_images))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        (num_outputs, num_inputs), num_images = weight.shape[:2], len(images)
        height, width = find_size(images, padding)
        tiling = Tiling.choose(weight, num_images, height, width)
        transforms = make_transforms(tiling.tile)
        filters = transform_weight(weight, transforms).transpose(1, 2)
        outputs = images.new_empty(num_images, height, width, num_outputs)
        for part in tiling.divide(num_images, num_inputs + num_outputs):
            tiles = transform_inputs(images[part], padding, tiling, transforms)
            products = take("products", *tiles.shape[:2], num_outputs)
            torch.bmm(tiles, filters, out=products)
            put_outputs(products, outputs[part], tiling, transforms)
        return outputs.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        padding = ctx.padding
        num_outputs, num_inputs = weight.shape[:2]
        to_images, to_weight, _ = ctx.needs_input_grad
        tiling = Tiling.choose(weight, len(images), *gradient.shape[2:])
        transforms = make_transforms(tiling.tile)
        filters = transform_weight(weight, transforms)
        of_images = torch.empty_like(images, memory_format=torch.channels_last) if to_images else None
        of_filters = torch.zeros_like(filters) if to_weight else None
        for part in tiling.divide(len(images), num_inputs + num_outputs):
            of_products = transform_gradient(gradient[part], tiling, transforms)
            if of_filters is not None:
                tiles = transform_inputs(images[part], padding, tiling, transforms)
                of_filters.baddbmm_(of_products.transpose(1, 2), tiles)
            if of_images is not None:
                of_tiles = take("tiles", *of_products.shape[:2], num_inputs)
                torch.bmm(of_products, filters, out=of_tiles)
                put_gradient(of_tiles, of_images[part], padding, tiling, transforms)
        of_weight = None
        if of_filters is not None:
            sums = transforms.weights.t() @ of_filters.flatten(1)
            of_weight = sums.view(3, 3, num_outputs, num_inputs).permute(2, 3, 0, 1)
        return of_images, of_weight, None


def transform_weight(weight: Tensor, transforms: Transforms) -> Tensor:
    """Weights (K, C, 3, 3), G w Gᵀ: (n², K, C)."""
    num_outputs, num_inputs = weight.shape[:2]
    return (transforms.weights @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(-1, num_outputs, num_inputs)


def transform_inputs(images: Tensor, padding: tuple[int, ...], tiling: Tiling, transforms: Transforms) -> Tensor:
    """The tiles of images (N, C, H, W), Bᵀ x B: (n², N · tiles, C), which lasts until the next call."""
    num_images, num_channels, height, width = images.shape
    top, left = padding
    padded = take("padded", num_images, tiling.size[0] + 2, tiling.size[1] + 2, num_channels)
    inside = padded[:, top : top + height, left : left + width]
    if inside.shape != padded.shape:
        padded.zero_()
    inside.copy_(images.permute(0, 2, 3, 1))
    windows = cut(padded, tiling, tiling.reach)
    numbers = take("numbers", *windows.shape).copy_(windows)
    tiles = take("tiles", tiling.num_inputs, num_images * tiling.num_tiles, num_channels)
    torch.mm(transforms.inputs, numbers.flatten(0, 1).flatten(1), out=tiles.flatten(1))
    return tiles


def put_outputs(products: Tensor, outputs: Tensor, tiling: Tiling, transforms: Transforms) -> None:
    """Aᵀ M A of products M (n², N · tiles, K), into outputs (N, H, W, K)."""
    num_images, height, width, num_channels = outputs.shape
    rows, columns = tiling.tile
    numbers = take("numbers", rows, columns, num_images, tiling.rows, tiling.columns, num_channels)
    torch.mm(transforms.outputs, products.flatten(1), out=numbers.flatten(0, 1).flatten(1))
    if tiling.size == (height, width):
        cut(outputs, tiling, tiling.tile).copy_(numbers)
    else:
        padded = take("padded", num_images, *tiling.size, num_channels)
        cut(padded, tiling, tiling.tile).copy_(numbers)
        outputs.copy_(padded[:, :height, :width])


def transform_gradient(gradient: Tensor, tiling: Tiling, transforms: Transforms) -> Tensor:
    """A g Aᵀ of the outputs' gradient (N, K, H, W): (n², N · tiles, K), which lasts until the next call."""
    num_images, num_channels, height, width = gradient.shape
    whole = gradient.permute(0, 2, 3, 1)
    if tiling.size != (height, width):
        padded = take("padded", num_images, *tiling.size, num_channels)
        padded[:, height:] = 0
        padded[:, :, width:] = 0
        padded[:, :height, :width] = whole
        whole = padded
    windows = cut(whole, tiling, tiling.tile)
    numbers = take("numbers", *windows.shape).copy_(windows)
    products = take("products", tiling.num_inputs, num_images * tiling.num_tiles, num_channels)
    torch.mm(transforms.outputs.t(), numbers.flatten(0, 1).flatten(1), out=products.flatten(1))
    return products


def put_gradient(
    of_tiles: Tensor, of_images: Tensor, padding: tuple[int, ...], tiling: Tiling, transforms: Transforms
) -> None:
    """B t Bᵀ of the tiles' gradient t (n², N · tiles, C), added where tiles overlap, into (N, C, H, W)."""
    num_images, num_channels, height, width = of_images.shape
    rows, columns = tiling.tile
    numbers = take("numbers", *tiling.reach, num_images, tiling.rows, tiling.columns, num_channels)
    torch.mm(transforms.inputs.t(), of_tiles.flatten(1), out=numbers.flatten(0, 1).flatten(1))
    # One more row and column of tiles, which takes what reaches over the last ones.
    padded = take("padded", num_images, (tiling.rows + 1) * rows, (tiling.columns + 1) * columns, num_channels)
    padded.zero_()
    wider = Tiling(tiling.tile, tiling.rows + 1, tiling.columns + 1)
    windows = cut(padded, wider, tiling.tile)
    for below in (0, 1):
        for beside in (0, 1):
            part = numbers[below * rows :][:rows, beside * columns :][:, :columns]
            place = windows[: len(part), : part.shape[1], :, below : below + tiling.rows]
            place[:, :, :, :, beside : beside + tiling.columns] += part
    top, left = padding
    of_images.permute(0, 2, 3, 1).copy_(padded[:, top : top + height, left : left + width])


def cut(images: Tensor, tiling: Tiling, window: tuple[int, int]) -> Tensor:
    """A view of images (N, H, W, C): (rows, columns, N, tile rows, tile columns, C) of windows, one at each tile."""
    num_images, _, _, num_channels = images.shape
    image, row, column, channel = images.stride()
    return images.as_strided(
        (*window, num_images, tiling.rows, tiling.columns, num_channels),
        (row, column, image, row * tiling.tile[0], column * tiling.tile[1], channel),
        images.storage_offset(),
    )


def take(name: str, *shape: int) -> Tensor:
    """Memory of this thread for numbers on their way, the same each time that `name` asks, whatever is in it."""
    size = math.prod(shape)
    held: dict[str, Tensor] = _scratch.__dict__
    if name not in held or held[name].numel() < size:
        held.pop(name, None)
        with torch.inference_mode(False):  # what is made inside could not be written to outside
            held[name] = torch.empty(size)
    return held[name][:size].view(shape)
