"""Averages of the weights over the steps: smoother than the weights, and often better on images not seen.

`ema`   exponential moving average, as of Polyak & Juditsky, SIAM J. Control Optim. 30(4), 1992
`lookahead`  the same every few steps, which then go on from it (Zhang et al., arXiv:1907.08610)
`swa`   stochastic weight averaging over the epochs of the run's last part (Izmailov et al., arXiv:1803.05407)

An average is what is evaluated, selected on and kept; the steps go on from the plain weights, but for lookahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from cnnlab.modes import keep_modes
from cnnlab.optim.registry import AVERAGES
from cnnlab.signature import BelowOne, Count, Fraction


class Source(Protocol):
    """The training batches, as the engine has them."""

    def __len__(self) -> int: ...

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Any]: ...


class PlainWeights:
    """No average: the weights as they are, or as an optimizer without a schedule averages them itself."""

    def __init__(self, optimizer: Optimizer):
        self.averaged: Callable[[], AbstractContextManager[None]] = getattr(optimizer, "averaged", nullcontext)

    def update(self, step: int) -> None:
        """Nothing to take in."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Nothing to go on with."""


class Average:
    """Parameters and buffers of a model, averaged, with `weigh`: step, averages so far → the newest one's weight.

    A weight of None leaves the step out; the first that counts is taken as it is. `refresh`, if there is one, is
    called for that step with the averaged weights in the model. With `restart` the steps go on from the average.
    """

    def __init__(
        self,
        model: nn.Module,
        weigh: Callable[[int, int], float | None],
        refresh: Callable[[int], None] | None = None,
        *,
        restart: bool = False,
    ):
        self._weigh = weigh
        self._refresh = refresh
        self._restart = restart
        self._model = dict(model.named_parameters()) | dict(model.named_buffers())
        self._aside: dict[str, Tensor] = {}  # the averages; inside `averaged` the plain weights
        self._num_updates = 0

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that step number `step` (from 1) has led to."""
        weight = self._weigh(step, self._num_updates)
        if weight is None:
            return
        if not self._aside:
            self._aside = {name: value.clone() for name, value in self._model.items()}
        else:
            floats = [name for name, value in self._model.items() if value.is_floating_point()]
            torch._foreach_lerp_([self._aside[n] for n in floats], [self._model[n].detach() for n in floats], weight)
            for name in self._model.keys() - floats:  # counters
                self._aside[name].copy_(self._model[name])
        self._num_updates += 1
        if self._restart:
            for name, value in self._aside.items():
                self._model[name].copy_(value)
        if self._refresh is not None:
            with self.averaged():
                self._refresh(step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model holds the averages; its own weights before there are any."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, aside in self._aside.items():
            held = self._model[name].clone()
            self._model[name].copy_(aside)
            aside.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """Inside `averaged`: the plain weights, from which the steps go on."""
        return {"weights": self._aside, "num_updates": self._num_updates}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; the model holds the averages, and its own weights afterwards."""
        self._num_updates = stored["num_updates"]
        self._aside = {
            name: self._model[name].detach().clone().copy_(value) for name, value in stored["weights"].items()
        }
        self._swap()


@AVERAGES.register
def none(*, optimizer: Optimizer) -> PlainWeights:
    """The weights as they are."""
    return PlainWeights(optimizer)


@AVERAGES.register
def ema(*, model: nn.Module, decay: BelowOne = 0.999) -> Average:
    """After each step the average moves to the weights by 1 - decay, and by more at first: by 9 / (10 + step)."""
    return Average(model, lambda step, num_updates: 1 - min(decay, (1 + num_updates) / (10 + num_updates)))


@AVERAGES.register
def lookahead(*, model: nn.Module, num_steps: int, every: Count = 5, decay: BelowOne = 0.95) -> Average:
    """Every `every` steps the slow weights move to those of the steps, and the steps go on from the slow ones.

    By 1 - decay^every · t³, where t is the share of the run: at first almost all the way, as in arXiv:2404.00498,
    section 3.4, so that the end averages over many steps.
    """

    def weigh(step: int, num_updates: int) -> float | None:
        return 1 - decay**every * (step / num_steps) ** 3 if step % every == 0 else None

    return Average(model, weigh, restart=True)


@AVERAGES.register
def swa(*, model: nn.Module, num_steps: int, train: Source, start: Fraction = 0.75) -> Average:
    """The plain mean of the weights after each epoch after the share `start` of the run.

    Statistics of batch normalisation are computed anew for the averaged weights, by a pass over the epoch's batches.
    """

    def weigh(step: int, num_updates: int) -> float | None:
        ends_epoch = step % len(train) == 0 or step == num_steps
        return 1 / (1 + num_updates) if ends_epoch and step > start * num_steps else None

    def compute_statistics(step: int) -> None:
        epoch = (step - 1) // len(train)
        average_statistics(model, (train.batch(epoch, number)[0] for number in range(len(train))))

    normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
    return Average(model, weigh, compute_statistics if normalises else None)


@torch.no_grad()
def average_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Let the running statistics of batch normalisation be the means of those of the batches, each by its size."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    num_seen = 0
    with keep_modes(model):
        model.train()
        for norm in norms:
            norm.reset_running_stats()
        for images in batches:
            num_seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / num_seen
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
