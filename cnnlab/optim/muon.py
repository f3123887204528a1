"""Muon: momentum whose matrix is made orthogonal before the step, so that all its directions count alike.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the size of the step as in Liu et al.,
arXiv:2502.16982, which makes the root mean square of an update that of AdamW: so one learning rate and one weight decay
serve both. Matrices are the weights of linear layers and of convolutions, a kernel (out, in, h, w) being read as
out × in·h·w; everything else (biases, scales of normalisation) is left to AdamW.

With `normalize` the kernels of convolutions keep a norm of √out, and a step turns them by the rate itself, as in the
94 % on CIFAR-10 in 2.59 s (airbench94_muon.py of github.com/KellerJordan/cifar10-airbench). Weight decay, which only
changes norms, does nothing to them then.

torch's own Muon (from 2.9 on) takes matrices alone, and in bfloat16 everywhere. Here the iteration runs in
float32 on a CPU, where bfloat16 is seldom faster.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cnnlab.optim.registry import OPTIMIZERS, Groups
from cnnlab.signature import BelowOne, Count, Positive, WeightDecay

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the odd polynomial that is steepest at 0 and stays near 1 in (0, 1]
RMS = 0.2  # of AdamW's usual update
EPS = 1e-8


@OPTIMIZERS.register
def muon(
    params: Groups,
    *,
    lr: Positive = 0.001,
    momentum: BelowOne = 0.95,
    nesterov: bool = True,
    weight_decay: WeightDecay = 0.1,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    normalize: bool = False,
    num_iterations: Count = 5,
) -> Optimizer:
    """Orthogonal steps for convolutions and linear layers, AdamW (`beta1`, `beta2`) for the rest."""
    return Muon(params, lr, momentum, nesterov, weight_decay, (beta1, beta2), normalize, num_iterations)


class Muon(Optimizer):
    """Muon for parameters of two and more dimensions, AdamW for the others."""

    def __init__(
        self,
        groups: Groups,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        betas: tuple[float, float],
        normalize: bool = False,
        num_iterations: int = 5,
    ):
        parts: Groups = []
        for group in groups:
            matrices = [p for p in group["params"] if p.dim() > 1]
            others = [p for p in group["params"] if p.dim() <= 1]
            parts += [{**group, "params": matrices, "orthogonal": True}] if matrices else []
            parts += [{**group, "params": others, "orthogonal": False}] if others else []
        settings: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "betas": betas}
        settings |= {"normalize": normalize, "num_iterations": num_iterations}
        super().__init__(parts, {"lr": lr, "weight_decay": weight_decay, **settings})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Checkpoints of earlier versions name fewer settings."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("normalize", False)
            group.setdefault("num_iterations", 5)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            gradients = [p.grad for p in params]
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            take_steps = take_orthogonal_steps if group["orthogonal"] else take_adamw_steps
            take_steps(params, gradients, [self.state[p] for p in params], group)


def take_orthogonal_steps(
    params: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
) -> None:
    for state, gradient in zip(states, gradients, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
    momenta = [state["momentum"] for state in states]
    torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
    directions = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
    for p, direction in zip(params, directions, strict=True):
        update = orthogonalize(direction.flatten(1), group["num_iterations"])  # (out, in·h·w)
        if group["normalize"] and p.dim() > 2:
            p.mul_(math.sqrt(len(p)) / p.norm())
            length = 1.0
        else:
            length = RMS * math.sqrt(max(update.shape))
        p.add_(update.view_as(p), alpha=-group["lr"] * length)


def take_adamw_steps(
    params: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
) -> None:
    for state, gradient in zip(states, gradients, strict=True):
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
        state["step"] += 1
    beta1, beta2 = group["betas"]
    means, squares = ([state[name] for state in states] for name in ("mean", "square"))
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    deviations = torch._foreach_sqrt(squares)
    torch._foreach_div_(deviations, [math.sqrt(1 - beta2 ** state["step"]) for state in states])
    torch._foreach_add_(deviations, EPS)
    torch._foreach_addcdiv_(
        params, means, deviations, [-group["lr"] / (1 - beta1 ** state["step"]) for state in states]
    )


def orthogonalize(matrix: Tensor, num_iterations: int) -> Tensor:
    """UVᵀ of the singular value decomposition USVᵀ of `matrix`, roughly: after five singular values of 0.7 to 1.2.

    Newton-Schulz iterations, matrix products alone. Each maps every singular value s to a·s + b·s³ + c·s⁵ and leaves
    the singular vectors as they are; after three small values are still small.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # the smaller of the two squares below
    x = x.bfloat16() if matrix.is_cuda else x
    x = x / x.norm().clamp(min=1e-7)  # no singular value is larger than this norm
    for _ in range(num_iterations):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
