"""torch's optimizers under the names and arguments that YAML uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from cnnlab.optim.registry import OPTIMIZERS
from cnnlab.signature import Fraction, NonNegative, Positive

Params = Iterable[nn.Parameter]


@OPTIMIZERS.register
def sgd(
    params: Params,
    *,
    lr: Positive = 0.01,
    momentum: Fraction = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent, with momentum where asked for."""
    params = list(params)
    return SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=_fusible(params))


@OPTIMIZERS.register
def adam(
    params: Params,
    *,
    lr: Positive = 0.003,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adam (Kingma & Ba, arXiv:1412.6980), at a rate for small networks; the paper's is 0.001."""
    params = list(params)
    return Adam(params, lr, (beta1, beta2), weight_decay=weight_decay, fused=_fusible(params))


@OPTIMIZERS.register
def adamw(
    params: Params,
    *,
    lr: Positive = 0.001,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    weight_decay: NonNegative = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101)."""
    params = list(params)
    return AdamW(params, lr, (beta1, beta2), weight_decay=weight_decay, fused=_fusible(params))


def _fusible(params: list[nn.Parameter]) -> bool:
    """Whether torch has one kernel for the whole step over these parameters."""
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)


# --- Without the compiler ---------------------------------------------------------------------------
#
# Constructing and stepping torch's optimizers imports torch.compile's tracer, to tell it what to leave
# alone: a second or two before the first step of a run that compiles nothing. The two functions below
# reach what lies beneath.


def _skip_tracer(method: str) -> None:
    """Give a method of Optimizer the traced form it would otherwise import the tracer for: itself."""
    inner = getattr(getattr(Optimizer, method), "__wrapped__", None)
    if inner is not None:
        inner.__dynamo_disable = inner


for _method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    _skip_tracer(_method)


def plain_step(optimizer: Optimizer) -> Callable[[], None]:
    """`optimizer.step` without torch's wrappers around it (profiler record, hooks, tracer): the same arithmetic."""
    step = inspect.unwrap(type(optimizer).step)

    def take_step() -> None:
        with torch.no_grad():
            step(optimizer)

    return take_step
