"""Training mode or evaluation mode, of each layer of a network for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def keep_modes(network: nn.Module) -> Iterator[None]:
    """Puts every module back into the mode, training or evaluation, that it came in."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
