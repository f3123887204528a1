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
from collections.abc import Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cnnlab.graphs import Function, lies_here, record
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
        self._recordings: dict[int, tuple[Hashable, Function]] = {}  # by the group's number: what of, and it

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Checkpoints of earlier versions name fewer settings."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("normalize", False)
            group.setdefault("num_iterations", 5)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for number, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            gradients = [p.grad for p in params]
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            states = [self.state[p] for p in params]
            if group["orthogonal"]:
                take_orthogonal_steps(params, gradients, states, group, partial(self._orthogonalize, number, group))
            else:
                take_adamw_steps(params, gradients, states, group)

    def _orthogonalize(self, number: int, group: dict[str, Any], directions: list[Tensor]) -> list[Tensor]:
        """A matrix for each direction of a group. On a GPU, where launching its products takes longer, recorded."""
        function = partial(orthogonalize_each, num_iterations=group["num_iterations"])
        if not all(map(lies_here, directions)):
            return function(directions)
        key = group["num_iterations"], [(each.shape, each.stride(), each.dtype) for each in directions]
        known, play = self._recordings.get(number, (None, function))
        if known != key:
            play = record(function, directions)
            self._recordings[number] = key, play
        return play(directions)


def take_orthogonal_steps(
    params: list[Tensor],
    gradients: list[Tensor],
    states: list[dict[str, Any]],
    group: dict[str, Any],
    orthogonalize: Function,
) -> None:
    for state, gradient in zip(states, gradients, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
    momenta = [state["momentum"] for state in states]
    torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
    directions = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
    updates = orthogonalize(list(directions))
    lengths = [RMS * math.sqrt(max(update.shape)) for update in updates]
    if group["normalize"]:
        kernels = [number for number, p in enumerate(params) if p.dim() > 2]
        if kernels:
            keep_norms([params[number] for number in kernels])
        for number in kernels:
            lengths[number] = 1.0
    torch._foreach_mul_(updates, [-group["lr"] * length for length in lengths])
    torch._foreach_add_(params, [update.view_as(p) for p, update in zip(params, updates, strict=True)])


def keep_norms(kernels: list[Tensor]) -> None:
    """Scale kernels (out, in, h, w), in place, to a norm of √out."""
    factors = torch._foreach_reciprocal(torch._foreach_norm(kernels))
    torch._foreach_mul_(factors, [math.sqrt(len(kernel)) for kernel in kernels])
    torch._foreach_mul_(kernels, factors)


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


def orthogonalize_each(kernels: list[Tensor], num_iterations: int) -> list[Tensor]:
    """Each kernel (out, in, …) as a matrix (out, in·…) made orthogonal.

    On a GPU those of one shape together; on a CPU products of many matrices at once are slower than one by one.
    """
    matrices = [kernel.flatten(1) for kernel in kernels]
    together: dict[Hashable, list[int]] = {}
    for number, matrix in enumerate(matrices):
        together.setdefault(matrix.shape if matrix.is_cuda else number, []).append(number)
    found: dict[int, Tensor] = {}
    for numbers in together.values():
        stack = torch.stack([matrices[number] for number in numbers])
        found.update(zip(numbers, orthogonalize(stack, num_iterations), strict=True))
    return [found[number] for number in range(len(matrices))]


def orthogonalize(matrices: Tensor, num_iterations: int) -> Tensor:
    """UVᵀ of the singular value decompositions USVᵀ of `matrices` (N, out, in), roughly.

    After five iterations singular values are 0.7 to 1.2; after three small ones are still small. Newton-Schulz
    iterations, matrix products alone: each maps every singular value s to a·s + b·s³ + c·s⁵ and leaves the singular
    vectors as they are.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices  # the smaller of the two squares below
    x = x.bfloat16() if matrices.is_cuda else x
    # No singular value is larger than this norm.
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(num_iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
