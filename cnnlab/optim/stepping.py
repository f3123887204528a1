"""An optimizer's step as the loop takes it, without what torch wraps around it.

Constructing and stepping torch's optimizers imports torch.compile's tracer, to tell it what to leave
alone: a second or two before the first step of a run that compiles nothing. The functions below reach
what lies beneath.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import LBFGS, Optimizer

ComputeGradients = Callable[[], tuple[torch.Tensor, torch.Tensor]]  # over one batch → outputs, loss


def _skip_tracer(method: str) -> None:
    """Give a method of Optimizer the traced form it would otherwise import the tracer for: itself."""
    inner = getattr(getattr(Optimizer, method), "__wrapped__", None)
    if inner is not None:
        inner.__dynamo_disable = inner


for _method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    _skip_tracer(_method)


def plain_step(optimizer: Optimizer) -> Callable[[ComputeGradients], None]:
    """`optimizer.step` without torch's wrappers around it (profiler record, hooks, tracer): the same arithmetic.

    The step uses the gradients that are there. It is handed a pass over the same batch for optimizers
    that ask for the loss at several points before they decide: LBFGS.
    """
    step: Callable[..., Any] = inspect.unwrap(type(optimizer).step)

    def take_step(compute_gradients: ComputeGradients) -> None:
        with torch.no_grad():
            if isinstance(optimizer, LBFGS):
                step(optimizer, lambda: compute_gradients()[1])
            else:
                step(optimizer)

    return take_step
