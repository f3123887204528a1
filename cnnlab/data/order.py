"""Which images an epoch takes, one after the other, and which part of a batch is whose.

Both are functions: of the seed and the epoch, and of a process's rank. Nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cnnlab.seeds import derive_seed

Sampling = Literal["shuffled", "balanced"]


@dataclass(frozen=True)
class Share:
    """The part of each batch that is one process's: side by side the parts of all processes are the whole batch.

    They differ by one image where a batch does not divide evenly; of fewer images than processes some have none.
    """

    rank: int = 0
    num_processes: int = 1

    def of(self, batch: slice) -> slice:
        """This process's part of the positions `batch` of an epoch."""
        size = batch.stop - batch.start
        first, end = (-(-rank * size // self.num_processes) for rank in (self.rank, self.rank + 1))  # rounded up
        return slice(batch.start + first, batch.start + end)


def random_stream(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """The random numbers for one purpose in one epoch; on the CPU: the same whatever device computes."""
    return torch.Generator().manual_seed(derive_seed(seed, epoch, purpose))


def draw_order(num_images: int, seed: int | None, epoch: int, sampling: Sampling, labels: Tensor) -> Tensor:
    """The images 0 … `num_images` - 1 as an epoch takes them, int64 (N,). Without a seed as they come.

    "shuffled" takes each image once; "balanced" draws as many, with replacement, such that each class in `labels`
    (N,) is as likely as any other.
    """
    if seed is None:
        return torch.arange(num_images)
    stream = random_stream(seed, epoch, "order")
    if sampling == "shuffled":
        return torch.randperm(num_images, generator=stream)
    labels = labels.cpu()
    likelihood = 1 / torch.bincount(labels).double()
    return torch.multinomial(likelihood[labels], num_images, replacement=True, generator=stream)
