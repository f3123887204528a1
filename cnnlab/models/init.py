"""Initialisation: `model.init` names one of these; null keeps torch's own.

Each function sets one module in place, and is applied to every module of a network in turn.
"""

from __future__ import annotations

from torch import nn

from cnnlab.models.registry import INITS


@INITS.register
def xavier(module: nn.Module) -> None:
    """Uniform with variance 2 / (fan_in + fan_out) on weights, zero biases (Glorot & Bengio 2010)."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
