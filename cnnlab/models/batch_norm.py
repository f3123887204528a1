"""Batch normalisation over the whole batch where many processes divide it, each with its share of the images.

On GPUs that is torch's `SyncBatchNorm`, whose kernels exist for nothing else; `WholeBatchNorm` is the same for the
CPU, in plain arithmetic. With it two processes compute what one does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnlab.distributed import add_up_tensors


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with each batch normalisation over all processes; parameters and buffers keep their names."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = WholeBatchNorm  # parameters, buffers and settings stay where they are
    return model


class AddUp(torch.autograd.Function):
    """The sum over all processes. Each of them depends on it, so that the gradient is a sum as well."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        add_up_tensors([total])
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        add_up_tensors([total])
        return total


class WholeBatchNorm(_BatchNorm):
    """Batch normalisation (Ioffe & Szegedy, arXiv:1502.03167) with mean and variance over all processes' images.

    A process without images takes part with sums of zero.
    """

    def _check_input_dim(self, images: Tensor) -> None:
        pass  # the class this one stands in for knows the dimensions

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        channels = images.shape[1]
        dims = [dim for dim in range(images.dim()) if dim != 1]
        shape = [channels if dim == 1 else 1 for dim in range(images.dim())]
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        num_values = values.new_full((1,), values.numel() / channels)  # of each channel
        total = AddUp.apply(torch.cat([values.sum(dims), num_values]))
        mean, count = total[:-1] / total[-1], total[-1].item()
        if count == 1:
            raise ValueError(f"expected more than one value per channel to normalise, got images {tuple(images.shape)}")
        centred = values - mean.view(shape)
        variance = AddUp.apply(centred.square().sum(dims)) / count
        self._keep(mean.detach(), variance.detach() * count / (count - 1))
        normalised = (centred * (variance + self.eps).rsqrt().view(shape)).to(images.dtype)
        if self.weight is None or self.bias is None:
            return normalised
        return normalised * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards these; without a momentum they are plain means over the batches."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)
