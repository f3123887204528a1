"""Optimizers that average their weights instead of lowering their rate: no schedule, no length to know before.

Defazio et al., "The Road Less Scheduled" (arXiv:2405.15682). Three sequences of weights:

    z   takes the steps, at gradients of y
    x   is the average of z, the rate of a step squared being its weight: what is evaluated and kept
    y = (1 - β) z + β x, where gradients are computed

While training, the network holds y. `averaged()` puts x in its place for a while. y is computed anew from z
and x, both kept exactly, so that evaluating x moves nothing, and a checkpoint that holds x and z holds all.
(The authors' package keeps y and z alone and computes x back, which rounds each time.)

The running statistics of batch normalisation come from y; for weights that still move fast they lag behind x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnnlab.optim.registry import OPTIMIZERS, Groups
from cnnlab.signature import BelowOne, Positive, WeightDecay

EPS = 1e-8


@OPTIMIZERS.register
def schedule_free_sgd(
    params: Groups,
    *,
    lr: Positive = 1.0,
    momentum: BelowOne = 0.9,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """SGD that averages its weights; `momentum` is β above. Good rates are large: 10 to 50 times SGD's."""
    return ScheduleFree(params, lr, momentum, None, weight_decay)


@OPTIMIZERS.register
def schedule_free_adamw(
    params: Groups,
    *,
    lr: Positive = 0.0025,
    beta1: BelowOne = 0.9,
    beta2: BelowOne = 0.999,
    weight_decay: WeightDecay = 0.0,
) -> Optimizer:
    """AdamW that averages its weights; `beta1` is β above. Good rates are 1 to 10 times AdamW's."""
    return ScheduleFree(params, lr, beta1, beta2, weight_decay)


class ScheduleFree(Optimizer):
    """Algorithm 1 of the paper with `beta2`, and without it the same with plain gradients."""

    def __init__(self, groups: Groups, lr: float, beta: float, beta2: float | None, weight_decay: float):
        sums = {"step": 0, "weight_sum": 0.0}
        super().__init__(groups, {"lr": lr, "beta": beta, "beta2": beta2, "weight_decay": weight_decay, **sums})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if all(y.grad is None for y in group["params"]):  # does not learn yet: its first step is still to come
                continue
            group["step"] += 1
            rate = group["lr"]
            if group["beta2"] is not None:
                rate *= math.sqrt(1 - group["beta2"] ** group["step"])
            group["weight_sum"] += rate**2
            share = rate**2 / group["weight_sum"] if group["weight_sum"] > 0 else 1.0
            for y in group["params"]:
                if y.grad is not None:
                    state = self._state(y)
                    z, x = state["z"], state["x"]
                    z.sub_(direction(y.grad, state, group), alpha=rate)
                    z.sub_(y, alpha=rate * group["weight_decay"])
                    x.lerp_(z, share)
                    torch.lerp(z, x, group["beta"], out=y.data)

    def _state(self, y: nn.Parameter) -> dict[str, Any]:
        state = self.state[y]
        if not state:
            state |= {"z": y.clone(), "x": y.clone()}
        return state

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the parameters are the averages x."""
        self._show_average()
        try:
            yield
        finally:
            self._show_place()

    @torch.no_grad()
    def _show_average(self) -> None:
        for y, state in self.state.items():
            y.copy_(state["x"])

    @torch.no_grad()
    def _show_place(self) -> None:
        """The parameters are y, where the next gradient is computed."""
        for group in self.param_groups:
            for y in group["params"]:
                if y in self.state:
                    torch.lerp(self.state[y]["z"], self.state[y]["x"], group["beta"], out=y.data)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` stopped; the parameters are set too, whatever they were."""
        super().load_state_dict(state_dict)
        self._show_place()


def direction(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The gradient, divided by the root of its recent mean square where `beta2` asks for it."""
    if group["beta2"] is None:
        return grad
    if "square" not in state:
        state["square"] = torch.zeros_like(grad)
    square = state["square"].mul_(group["beta2"]).addcmul_(grad, grad, value=1 - group["beta2"])
    return grad / square.sqrt().add_(EPS)
