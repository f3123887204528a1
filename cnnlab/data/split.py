"""Which images are for training, which choose the best checkpoint, which are looked at once at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnlab.errors import DataError
from cnnlab.runtime import derive_seed

NUM_LISTED = 10  # classes that a message names


def split_off(
    labels: Tensor, fraction: float, seed: int, purpose: str, classes: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """Indices (kept, taken), each in ascending order, `taken` being `fraction` of every class.

    Stratified where labels are classes: a class of n images gives n·fraction, rounded so that the total
    is right as well (the largest remainders are rounded up), and every class keeps at least one image.
    The same labels, seed and purpose always give the same split.

    Raises DataError for a class with a single image, which cannot be on both sides, by its name among `classes`.
    """
    if fraction == 0:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.long)
    if labels.is_floating_point():
        labels = torch.zeros(len(labels), dtype=torch.long)  # numbers: all of one kind
    counts = torch.bincount(labels)
    lonely = [classes[label] if classes else str(label) for label in (counts == 1).nonzero().flatten().tolist()]
    if lonely:
        more = ", …" if len(lonely) > NUM_LISTED else ""
        raise DataError(
            f"split.{purpose}={fraction:g}: classes with a single image ({len(lonely)}): "
            f"{', '.join(lonely[:NUM_LISTED])}{more}; it cannot be both trained on and tested on: add images or set "
            f"split.{purpose}=0"
        )
    quota = counts * fraction
    take = quota.floor()
    num_missing = round(float(quota.sum())) - int(take.sum())
    take[(quota - take).argsort(descending=True, stable=True)[:num_missing]] += 1
    take = take.minimum((counts - 1).clamp(min=0)).long()

    generator = torch.Generator().manual_seed(derive_seed(seed, "split", purpose))
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label, num_taken in enumerate(take.tolist()):
        members = (labels == label).nonzero().flatten()
        taken[members[torch.randperm(len(members), generator=generator)[:num_taken]]] = True
    return (~taken).nonzero().flatten(), taken.nonzero().flatten()
