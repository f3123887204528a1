"""Initialisation: `model.init` names one of these; null keeps torch's own.

Each function sets one module in place, and is applied to every module of a network in turn, children before
the module that holds them. One of your own joins as a network does, by `imports:`

    @INITS.register
    def mine(module: nn.Module) -> None: ...
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from cnnlab.models.registry import INITS

NORMALISATIONS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


@INITS.register
def xavier(module: nn.Module) -> None:
    """Uniform with variance 2 / (fan_in + fan_out) on weights, zero biases (Glorot & Bengio 2010)."""
    if isinstance(module, (_ConvNd, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        clear_bias(module)


@INITS.register
def kaiming(module: nn.Module) -> None:
    """For ReLUs: normal with variance 2 / fan, which keeps signals alive through many layers (He et al. 2015).

    "Delving deep into rectifiers", arXiv:1502.01852. The fan of a convolution is its fan_out, as usual since
    ResNet; that of a linear layer its fan_in, for the fan_out of the last layer is the number of classes,
    which says nothing about its inputs. Biases are zero; normalisations start as the identity.
    """
    if isinstance(module, _ConvNd):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        clear_bias(module)
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        clear_bias(module)
    elif isinstance(module, NORMALISATIONS) and module.weight is not None:
        nn.init.ones_(module.weight)
        clear_bias(module)


@INITS.register
def zero_init_residual(module: nn.Module) -> None:
    """`kaiming`, and zeros in the last layer of every residual branch: each block starts as its shortcut.

    Goyal et al., "Accurate, large minibatch SGD", 2017, arXiv:1706.02677, section 5.1, for normalisations. A
    block says by its attribute `residual_end` which layer that is; a network without such blocks is
    initialised as `kaiming` does.
    """
    kaiming(module)
    end = getattr(module, "residual_end", None)
    if end is not None:
        nn.init.zeros_(end.weight)
        clear_bias(end)


@INITS.register
def dirac(module: nn.Module) -> None:
    """Convolutions pass their inputs on: as many filters as there are inputs are the identity, others torch's own.

    Zagoruyko & Komodakis, arXiv:1706.00388; so initialised in part in arXiv:2404.00498, section 3.3. Biases are zero.
    """
    if isinstance(module, (_ConvNd, nn.Linear)):
        clear_bias(module)
    if isinstance(module, _ConvNd) and not module.transposed and module.groups == 1:
        nn.init.dirac_(module.weight.data[: module.in_channels])


@INITS.register
def orthogonal(module: nn.Module) -> None:
    """Orthogonal matrices, which keep the length of a signal, times √2 for ReLUs (Saxe et al. 2013).

    "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", arXiv:1312.6120. A
    convolution's matrix has a row for each output channel. Biases are zero.
    """
    if isinstance(module, (_ConvNd, nn.Linear)):
        nn.init.orthogonal_(module.weight, gain=math.sqrt(2))
        clear_bias(module)


@INITS.register
def normal(module: nn.Module) -> None:
    """Normal with standard deviation 0.01 on weights, zero biases, as AlexNet's (Krizhevsky et al. 2012).

    There the biases of some layers begin at 1. Deep networks without normalisation do not start with this:
    signals shrink at every layer.
    """
    if isinstance(module, (_ConvNd, nn.Linear)):
        nn.init.normal_(module.weight, std=0.01)
        clear_bias(module)


def clear_bias(module: nn.Module) -> None:
    if isinstance(module.bias, Tensor):
        nn.init.zeros_(module.bias)
