"""A network that can be asked: the model, where it lies, what it is for and how it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnnlab.engine.compute import PLAIN, Compute
from cnnlab.tasks import MULTICLASS, Task


@dataclass(frozen=True)
class Network:
    """Call it with images (N, C, H, W) on its device for its outputs (N, outputs), float32."""

    model: nn.Module
    device: torch.device
    task: Task = MULTICLASS
    compute: Compute = PLAIN

    def __call__(self, images: Tensor) -> Tensor:
        with self.compute.forward_pass(self.device):
            outputs: Tensor = self.model(self.compute.arrange(images))
        return outputs.float()

    def computed_as(self, compute: Compute) -> Network:
        """The same model, from now on in this way, in place."""
        compute.prepare(self.model)
        return replace(self, compute=compute)
