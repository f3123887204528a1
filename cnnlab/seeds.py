"""Random streams: a seed of its own for each purpose, so that drawing more for one moves no other."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A seed for each tuple of parts, such as (seed, epoch, "order"): 32 bits, spread evenly."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seed_step(device: torch.device, *parts: int | str) -> None:
    """Set torch's global generators, from which dropout draws, for what comes next on `device`."""
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
