"""torch's optimizers under the names and arguments that YAML uses.

Where torch has one kernel for the whole step (`fused`), it is used. Elsewhere torch chooses: one
operation over all tensors (`foreach`) on CUDA, one after the other on a CPU. That is right there:
for eight optimizers `foreach` took 0.6 to 1.8 times as long, longer for networks with large tensors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch import nn
from torch.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)

from cnnlab.errors import ConfigError
from cnnlab.optim.registry import OPTIMIZERS, Groups
from cnnlab.signature import BelowOne, Count, NonNegative, Positive, Range, WeightDecay


@OPTIMIZERS.register
def sgd(
    params: Groups,
    *,
    lr: Positive = 0.01,
    momentum: BelowOne = 0.0,
    weight_decay: WeightDecay = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent, with momentum where asked for. Raises ConfigError for Nesterov's without any."""
    if nesterov and momentum == 0:
        raise ConfigError("optimizer.nesterov: true was given beside momentum 0; expected a momentum, such as 0.9")
    return SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=_fusible(params))


# --- Adam and its relatives -------------------------------------------------------------------------


@OPTIMIZERS.register
def adam(
    params: Groups,
    *,
    lr: Positive = 0.003,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """Adam (Kingma & Ba, arXiv:1412.6980), at a rate for small networks; the paper's is 0.001."""
    betas = float(beta1), float(beta2)  # torch has another meaning for whole numbers
    return Adam(params, lr, betas, weight_decay=weight_decay, fused=_fusible(params))


@OPTIMIZERS.register
def adamw(
    params: Groups,
    *,
    lr: Positive = 0.001,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    weight_decay: WeightDecay = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101)."""
    betas = float(beta1), float(beta2)
    return AdamW(params, lr, betas, weight_decay=weight_decay, fused=_fusible(params))


@OPTIMIZERS.register
def adamax(
    params: Groups,
    *,
    lr: Positive = 0.002,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """Adam scaled by the largest recent gradient (Kingma & Ba, arXiv:1412.6980, section 7.1)."""
    return Adamax(params, lr, (beta1, beta2), weight_decay=weight_decay)


@OPTIMIZERS.register
def nadam(
    params: Groups,
    *,
    lr: Positive = 0.002,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    weight_decay: WeightDecay = 0.0,
    momentum_decay: NonNegative = 0.004,
) -> Optimizer:
    """Adam with Nesterov momentum (Dozat 2016)."""
    return NAdam(params, lr, (beta1, beta2), weight_decay=weight_decay, momentum_decay=momentum_decay)


@OPTIMIZERS.register
def radam(
    params: Groups,
    *,
    lr: Positive = 0.001,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """Adam that adapts only once it has seen enough gradients (Liu et al., arXiv:1908.03265)."""
    return RAdam(params, lr, (beta1, beta2), weight_decay=weight_decay)


@OPTIMIZERS.register
def sparse_adam(
    params: Groups,
    *,
    model: nn.Module,
    lr: Positive = 0.001,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
) -> Optimizer:
    """Adam that touches only the rows a batch has used: for embeddings with sparse gradients.

    Raises ConfigError if any gradient is dense, as those of every convolution and linear layer are.
    """
    sparse = {module.weight for module in model.modules() if getattr(module, "sparse", False)}
    dense = [name for name, p in model.named_parameters() if p.requires_grad and p not in sparse]
    if dense:
        raise ConfigError(
            f"optimizer: sparse_adam needs sparse gradients, and {len(dense)} parameters have dense ones "
            f"('{dense[0]}' is the first); expected a network of nn.Embedding(…, sparse=True) alone: "
            "optimizer=adam does the same for dense gradients"
        )
    return SparseAdam(params, lr, (beta1, beta2))


# --- Rates of their own for each weight -------------------------------------------------------------


@OPTIMIZERS.register
def rmsprop(
    params: Groups,
    *,
    lr: Positive = 0.01,
    alpha: BelowOne = 0.99,
    momentum: BelowOne = 0.0,
    weight_decay: WeightDecay = 0.0,
    centered: bool = False,
) -> Optimizer:
    """Divides by the root of the recent mean square (Hinton's lecture 6e); `centered`: by the deviation."""
    return RMSprop(params, lr, alpha, weight_decay=weight_decay, momentum=momentum, centered=centered)


@OPTIMIZERS.register
def adagrad(
    params: Groups,
    *,
    lr: Positive = 0.01,
    lr_decay: NonNegative = 0.0,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """Divides by the root of the sum of all squares so far (Duchi et al. 2011)."""
    fused = _fusible(params, devices=("cpu",)) or None
    return Adagrad(params, lr, lr_decay, weight_decay, fused=fused)


@OPTIMIZERS.register
def adadelta(
    params: Groups,
    *,
    lr: Positive = 1.0,
    rho: BelowOne = 0.9,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """Steps in the units of the weights, from the recent squares of steps and gradients (Zeiler, arXiv:1212.5701)."""
    return Adadelta(params, lr, rho, weight_decay=weight_decay)


@OPTIMIZERS.register
def rprop(
    params: Groups,
    *,
    lr: Positive = 0.01,
    shrink: Annotated[float, Range(above=0, below=1)] = 0.5,
    grow: Annotated[float, Range(above=1)] = 1.2,
    smallest: Positive = 1e-6,
    largest: Positive = 50.0,
) -> Optimizer:
    """Looks only at the sign of each slope (Riedmiller & Braun 1993): meant for whole-set batches.

    `lr` is the size of the first step alone; from then on each weight has its own, which no schedule reaches.
    """
    return Rprop(params, lr, (shrink, grow), (smallest, largest))


# --- Others -----------------------------------------------------------------------------------------


@OPTIMIZERS.register
def asgd(
    params: Groups,
    *,
    lr: Positive = 0.01,
    lambd: NonNegative = 0.0001,
    alpha: BelowOne = 0.75,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """SGD whose rate falls as lr / (1 + lambd·lr·t)^alpha (Polyak & Juditsky 1992).

    As with torch's defaults, the average of the weights is not used.
    """
    return ASGD(params, lr, lambd, alpha, weight_decay=weight_decay)


@OPTIMIZERS.register
def lbfgs(
    params: Groups,
    *,
    lr: Positive = 1.0,
    max_iter: Count = 20,
    history_size: Count = 100,
    line_search: Literal["strong_wolfe"] | None = "strong_wolfe",
) -> Optimizer:
    """Quasi-Newton with limited memory (Liu & Nocedal 1989): meant for whole-set batches.

    A step passes over its batch some `max_iter` times and moves every weight at one rate. Without the line
    search (torch's default) it diverges easily.
    """
    for group in params:
        for p in group["params"]:
            p.data = p.data.contiguous()  # torch takes all weights as one vector, without copying
    return LBFGS(params, lr, max_iter, history_size=history_size, line_search_fn=line_search)


def _fusible(groups: Groups, devices: tuple[str, ...] = ("cpu", "cuda")) -> bool:
    """Whether torch has one kernel for the whole step over these parameters."""
    return all(p.device.type in devices and p.is_floating_point() for group in groups for p in group["params"])
