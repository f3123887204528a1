"""The sweep on a problem whose edge is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnlab.engine.network import Network
from cnnlab.engine.rate_sweep import Sweep, smooth, sweep_rates
from cnnlab.engine.step import Training
from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.averages import PlainWeights
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.losses import Criterion
from cnnlab.optim.stepping import plain_step
from cnnlab.tasks import REGRESSION
from tests.conftest import choose
from tests.engine.test_loop import CPU
from tests.runs.test_resume import assert_same


class Slopes:
    """x = 1 and x = -1 with y = 3x ± 1 in turn: the curvature is 2 for w and for b, so SGD explodes above rate 1."""

    num_examples, batch_size = 200, 2

    def __len__(self) -> int:
        return 100

    def batch(self, epoch: int, number: int):
        x = torch.tensor([[1.0], [-1.0]])
        return x, 3 * x + (-1) ** number


def make(name: str = "sgd", **given) -> Training:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = build_optimizer(choose(OPTIMIZERS, name, **given), model, 2)
    return Training(
        network=Network(model, CPU, REGRESSION),
        criterion=Criterion(nn.functional.mse_loss),
        optimizer=optimizer,
        plain_step=plain_step(optimizer),
        schedule=lambda step, rows: 1.0,
        average=PlainWeights(optimizer),
        train=Slopes(),
        valid=None,
        seed=0,
    )


def test_the_rates_rise_by_one_factor_until_the_loss_explodes():
    sweep = sweep_rates(make(), 1, 100, 1e-4, 100.0)
    assert sweep.rates[0] == 1e-4
    factors = [later / earlier for earlier, later in zip(sweep.rates, sweep.rates[1:], strict=False)]
    assert factors == pytest.approx([10 ** (6 / 99)] * len(factors))
    assert 0.3 < sweep.rates[-1] < 1
    assert sweep.suggestion is not None and 0.003 < sweep.suggestion < 0.1


@pytest.mark.parametrize("name", ["sgd", "adam", "schedule_free_sgd", "adagrad"])
def test_it_leaves_no_trace(name):
    training, untouched = make(name), make(name)
    first = sweep_rates(training, 2, 100, 1e-4, 10.0)
    assert_same(dict(training.model.state_dict()), dict(untouched.model.state_dict()))
    assert_same(training.optimizer.state_dict(), untouched.optimizer.state_dict())
    assert sweep_rates(training, 2, 100, 1e-4, 10.0) == first


def test_groups_keep_their_share_of_the_rate():
    training = make(lr=0.5, rates={"bias": 0.1})
    seen = []

    def step_and_tell(learn) -> None:
        seen.append([group["lr"] for group in training.optimizer.param_groups])
        training.plain_step(learn)

    sweep = sweep_rates(replace(training, plain_step=step_and_tell), 1, 20, 1e-4, 0.1)
    assert [rates[0] for rates in seen] == pytest.approx(sweep.rates)
    assert [rates[1] / rates[0] for rates in seen] == pytest.approx([0.1] * 20)


def test_several_sweeps_are_averaged_each_over_epochs_of_its_own():
    asked = []

    class Asked(Slopes):
        def __len__(self) -> int:
            return 8

        def batch(self, epoch: int, number: int):
            asked.append((epoch, number))
            return super().batch(epoch, number)

    sweep = sweep_rates(replace(make(), train=Asked()), 2, 20, 1e-4, 1e-2)
    once = [(number // 8, number % 8) for number in range(20)]
    assert asked == once + [(3 + epoch, number) for epoch, number in once]
    assert sweep.losses == sweep_rates(make(), 1, 20, 1e-4, 1e-2).losses  # the same batches: the same mean


class Coins(Slopes):
    """y = ±1, whatever x: nothing can be learned, though the loss falls while w comes down from 3 to 0."""

    def batch(self, epoch: int, number: int):
        generator = torch.Generator().manual_seed(1000 * epoch + number)
        x, heads = torch.randn(64, 1, generator=generator), torch.rand(64, 1, generator=generator) < 0.5
        return x, heads.float() * 2 - 1


def test_nothing_is_suggested_where_outputs_have_nothing_to_do_with_their_images():
    training = replace(make(), train=Coins())
    with torch.no_grad():
        training.model.weight.fill_(3.0)
    sweep = sweep_rates(training, 2, 100, 1e-4, 1.0)
    assert sweep.smooth[sweep.lowest] < 0.2 * sweep.smooth[0]
    assert sweep.suggestion is None


def test_where_all_is_learned_larger_rates_tell_nothing():
    """The loss stays next to nothing from the third step on, and happens to be lowest at the last."""
    smooth = [1.0, 0.5, 0.0009, 0.0005, 0.0001]
    sweep = Sweep([0.01, 0.1, 1.0, 10.0, 100.0], smooth, smooth, [1.0] * 5)
    assert (sweep.learned, sweep.lowest, sweep.suggestion) == (2, 2, 0.2)
    rising = sweep._replace(smooth=[1.0, 0.5, 0.01, 0.005, 0.2])
    assert (rising.learned, rising.lowest, rising.suggestion) == (None, 3, 2.0)


def test_smoothing_is_the_mean_of_five():
    assert smooth([0, 0, 5, 0, 0, 0], 2) == pytest.approx([5 / 3, 5 / 4, 1, 1, 5 / 4, 0])
