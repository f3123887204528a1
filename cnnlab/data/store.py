"""Where the images of a set lie: whole in memory, on the device that computes, or packed in a mapped file.

A store hands out some of its images by their indices, as an evaluation takes them or cut along boxes. They are
uint8 (N, H, W, C), as decoders write them and as channels_last convolutions read them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Protocol
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.crops import centre
from cnnlab.data.decoders import decode_jpeg
from cnnlab.data.resize import resize_into
from cnnlab.errors import DataError
from cnnlab.threads import worker_threads

AT_ONCE = 16  # images that a thread cuts at a time
PIECE = 1024  # images that statistics take at a time

Pixels = np.ndarray | Tensor  # uint8 (H, W, C)


class Store(Protocol):
    """Images by index. `image_size` is the side in pixels of what is handed out; `device` is where they lie."""

    channels: int
    image_size: int
    device: torch.device
    holds_pixels: bool  # or numbers that stay as they are, float32

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """One image as it lies, uint8 (H, W, C)."""
        ...

    def sizes(self, indices: Tensor) -> Tensor:
        """Heights and widths, int64 (N, 2)."""
        ...

    def take_centres(self, indices: Tensor, num_threads: int = 1) -> Tensor:
        """Some images as an evaluation takes them, (N, image_size, image_size, C)."""
        ...

    def cut(self, indices: Tensor, boxes: Tensor, num_threads: int = 1) -> Tensor:
        """A box (top, left, height, width) of each of some images, resized, (N, image_size, image_size, C).

        Bilinear and antialiased. On the CPU `num_threads` share the images, with the same result whatever their
        number; on other devices it is two products of matrices for the whole batch, which differ by at most one level.
        """
        ...

    def select(self, indices: Tensor) -> Store:
        """Some of the images, in the order of `indices`."""
        ...

    def join(self, other: Store) -> Store:
        """These images and, after them, those of a store of the same kind."""
        ...

    def to(self, device: torch.device) -> Store:
        """On the device that computes, if they can lie there."""
        ...

    def pieces(self, indices: Tensor) -> Iterator[Tensor]:
        """The pixels of some images, all of each, in tensors (..., C) on the CPU."""
        ...

    def checksums(self) -> list[int]:
        """One an image, the same for the same pixels; of packed ones they are there already."""
        ...

    @property
    def digest(self) -> bytes:
        """A few bytes that are others for other images; of packed ones the checksums are read, and no pixels."""
        ...


class Resident:
    """Squares of one size, whole in memory: uint8 (N, S, S, C), or float32 for numbers that are no pixels."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
        self.image_size, self.channels = tensor.shape[2:]
        self.device = tensor.device
        self.holds_pixels = not tensor.is_floating_point()

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.tensor[index].cpu().numpy()

    def sizes(self, indices: Tensor) -> Tensor:
        return torch.tensor(self.tensor.shape[1:3], device=self.device).expand(len(indices), 2)

    def take_centres(self, indices: Tensor, num_threads: int = 1) -> Tensor:
        return self.tensor.index_select(0, indices)

    def cut(self, indices: Tensor, boxes: Tensor, num_threads: int = 1) -> Tensor:
        if self.device.type != "cpu":
            return cut_by_matrices(self.tensor.index_select(0, indices), boxes, self.image_size)
        return cut_each(self.tensor, indices, boxes, self.image_size, self.channels, num_threads)

    def select(self, indices: Tensor) -> Resident:
        return Resident(self.tensor[indices])

    def join(self, other: Store) -> Resident:
        assert isinstance(other, Resident), "parts of one dataset are alike"
        return Resident(torch.cat([self.tensor, other.tensor]))

    def to(self, device: torch.device) -> Resident:
        return Resident(self.tensor.to(device))

    def pieces(self, indices: Tensor) -> Iterator[Tensor]:
        return (self.tensor[some.to(self.device)].cpu() for some in indices.split(PIECE))

    def checksums(self) -> list[int]:
        return [crc32(image.data) for image in np.ascontiguousarray(self.tensor.cpu().numpy())]

    @cached_property
    def digest(self) -> bytes:
        return hash_bytes(self.tensor.cpu().numpy())


class Packed:
    """Pictures of any sizes in mapped files, to have squares of `image_size` cut out of them.

    A page of a file comes into memory when it is touched and counts as the process's; the system takes it back when
    it needs the room. They stay there, whatever device computes.
    """

    device = torch.device("cpu")
    holds_pixels = True

    def __init__(
        self, files: Sequence[np.ndarray], spots: np.ndarray, checksums: np.ndarray, channels: int, image_size: int
    ):
        self.channels = channels
        self.image_size = image_size
        self._files = files  # uint8, the pixels of all images in a row
        self._spots = spots  # int64 (N, 4): offset, height, width, file
        self._checksums = checksums  # int64 (N), of the pixels of each

    def __len__(self) -> int:
        return len(self._spots)

    def __getitem__(self, index: int) -> np.ndarray:
        offset, height, width, file = self._spots[index, :4].tolist()
        pixels = self._files[file][offset : offset + height * width * self.channels]
        return pixels.reshape(height, width, self.channels)

    def sizes(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self._spots[indices.numpy(), 1:3])

    def take_centres(self, indices: Tensor, num_threads: int = 1) -> Tensor:
        return self.cut(indices, centre(self.sizes(indices), self.image_size), num_threads)

    def cut(self, indices: Tensor, boxes: Tensor, num_threads: int = 1) -> Tensor:
        return cut_each(self, indices, boxes, self.image_size, self.channels, num_threads)

    def select(self, indices: Tensor) -> Packed:
        chosen = indices.numpy()
        return type(self)(self._files, self._spots[chosen], self._checksums[chosen], self.channels, self.image_size)

    def join(self, other: Store) -> Packed:
        assert type(other) is type(self), "parts of one dataset are alike"
        moved = other._spots.copy()
        moved[:, 3] += len(self._files)
        spots, checksums = np.concatenate([self._spots, moved]), np.concatenate([self._checksums, other._checksums])
        return type(self)([*self._files, *other._files], spots, checksums, self.channels, self.image_size)

    def to(self, device: torch.device) -> Packed:
        return self

    def pieces(self, indices: Tensor) -> Iterator[Tensor]:
        return (torch.from_numpy(self[index]) for index in indices.tolist())

    def checksums(self) -> list[int]:
        return self._checksums.tolist()

    @cached_property
    def digest(self) -> bytes:
        return hash_bytes(self._spots[:, 1:3], self._checksums)


class PackedJpegs(Packed):
    """The same of JPEGs, each decoded whenever it is asked for, by the threads that cut: a quarter of the disk.

    The spots have a fifth column, how many bytes a JPEG has; its checksum is of these.
    """

    def __getitem__(self, index: int) -> np.ndarray:
        offset, _, _, file, length = self._spots[index].tolist()
        try:
            return decode_jpeg(self._files[file][offset : offset + length], grey=self.channels == 1)
        except (ValueError, OSError) as error:
            raise DataError(
                f"dataset.pack: JPEG {index} of the packed pictures is damaged ({error}); remove the .pack files below "
                "dataset.root (.cnnlab) or dataset.cache, and they are made anew"
            ) from error


def hash_bytes(*arrays: np.ndarray) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


# --- Cutting ------------------------------------------------------------------------------------------


def cut_each(
    images: Tensor | Packed, indices: Tensor, boxes: Tensor, size: int, channels: int, num_threads: int
) -> Tensor:
    """The boxes of some images on the CPU, one by one, each resized to `size`: (N, size, size, channels)."""
    source = images.numpy() if isinstance(images, Tensor) else images
    squares = torch.empty(len(indices), size, size, channels, dtype=torch.uint8)
    work = list(zip(indices.tolist(), boxes.tolist(), squares.split(1), strict=True))

    @torch.inference_mode()  # whether the batch is made in it or not, which threads do not know
    def fill(some: Sequence[tuple[int, list[int], Tensor]]) -> None:
        for index, (top, left, height, width), square in some:
            box = torch.from_numpy(source[index][None, top : top + height, left : left + width])
            if box.shape == square.shape:
                square.copy_(box)
            else:
                resize_into(square.permute(0, 3, 1, 2), box.permute(0, 3, 1, 2))

    pieces = [work[begin : begin + AT_ONCE] for begin in range(0, len(work), AT_ONCE)]
    list(map(fill, pieces) if num_threads == 1 else worker_threads(num_threads).map(fill, pieces))
    return squares


def cut_by_matrices(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The boxes of images (N, H, W, C), one of each, as two products of matrices: (N, size, size, C)."""
    rows = weigh_pixels(boxes[:, 0], boxes[:, 2], images.shape[1], size)  # (N, size, H)
    columns = weigh_pixels(boxes[:, 1], boxes[:, 3], images.shape[2], size)  # (N, size, W)
    squares = torch.einsum("nyh,nhwc,nxw->nyxc", rows, images.float(), columns)
    return squares.round_().clamp_(0, 255).to(torch.uint8)


def weigh_pixels(start: Tensor, length: Tensor, full: int, size: int) -> Tensor:
    """How much each of `full` pixels counts in each of the `size` that a part of them becomes: (N, size, full)."""
    scale = (length / size).view(-1, 1, 1)
    centres = (torch.arange(size, device=start.device) + 0.5).view(1, -1, 1) * scale  # from the part's beginning
    pixels = torch.arange(full, device=start.device) - start.view(-1, 1, 1)
    weights = (1 - (pixels + 0.5 - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixels >= 0) & (pixels < length.view(-1, 1, 1)))
    return weights / weights.sum(2, keepdim=True)
