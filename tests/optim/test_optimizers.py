"""Every optimizer: torch's own steps, exact resume, learning, and no compiler before it is asked for."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnlab.data import DATASETS, ImageSet
from cnnlab.data.batches import Batches
from cnnlab.data.normalise import Normalise
from cnnlab.engine.loop import Plan, fit, restore
from cnnlab.engine.network import Network
from cnnlab.engine.state import State
from cnnlab.engine.step import Training
from cnnlab.errors import ConfigError
from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.averages import PlainWeights
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.stepping import plain_step
from cnnlab.stopping import StopRequest
from tests.conftest import build_from, choose
from tests.engine.test_loop import CPU, CROSS_ENTROPY, Recorder
from tests.runs.test_resume import assert_same

DENSE = [name for name in OPTIMIZERS if name != "sparse_adam"]

# Name → torch's class, arguments that both take, and torch's names for what has another name here.
TORCHS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}, {"fused": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 1e-3}, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}, {"fused": True}),
    "adamax": (torch.optim.Adamax, {"lr": 0.01, "weight_decay": 1e-3}, {}),
    "nadam": (torch.optim.NAdam, {"lr": 0.01, "weight_decay": 1e-3, "momentum_decay": 0.01}, {}),
    "radam": (torch.optim.RAdam, {"lr": 0.01, "weight_decay": 1e-3}, {}),
    "rmsprop": (
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "weight_decay": 1e-3, "centered": True},
        {},
    ),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 1e-3}, {"fused": True}),
    "adadelta": (torch.optim.Adadelta, {"lr": 0.5, "rho": 0.8, "weight_decay": 1e-3}, {}),
    "rprop": (torch.optim.Rprop, {"lr": 0.02}, {"etas": (0.4, 1.3), "step_sizes": (1e-5, 10)}),
    "asgd": (torch.optim.ASGD, {"lr": 0.1, "lambd": 0.01, "alpha": 0.5, "weight_decay": 1e-3}, {}),
    "lbfgs": (torch.optim.LBFGS, {"lr": 0.5, "max_iter": 4, "history_size": 5}, {"line_search_fn": "strong_wolfe"}),
}
OURS = {
    "rprop": {"shrink": 0.4, "grow": 1.3, "smallest": 1e-5, "largest": 10.0},
    "lbfgs": {"line_search": "strong_wolfe"},
}


def small_network() -> nn.Module:
    """In the memory format that is the default."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def test_what_is_torchs_is_compared_and_the_rest_has_tests_of_its_own():
    assert set(OPTIMIZERS) == set(TORCHS) | {"sparse_adam", "muon", "schedule_free_sgd", "schedule_free_adamw"}


@pytest.mark.parametrize("name", TORCHS)
def test_steps_are_torchs_own(name):
    kind, arguments, torchs_names = TORCHS[name]
    results = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(6, 4)
        if ours:
            chosen = choose(OPTIMIZERS, name, **arguments, **OURS.get(name, {}))
            optimizer = build_optimizer(chosen, model, batch_size=5)
            step = plain_step(optimizer)
        else:
            optimizer = kind(model.parameters(), **arguments, **torchs_names)
            step = lambda learn, optimizer=optimizer: optimizer.step(lambda: learn()[1])  # noqa: E731
        generator = torch.Generator().manual_seed(0)
        for _ in range(7):
            images = torch.randn(5, 6, generator=generator)

            def learn(images=images, model=model, optimizer=optimizer):
                outputs = model(images)
                loss = (outputs - 1).square().mean()
                optimizer.zero_grad()
                loss.backward()
                return outputs, loss

            learn()
            step(learn)
        results.append(model.weight.detach())
    assert torch.equal(*results)


# --- On the digits ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return build_from(DATASETS, {"name": "digits", "image_size": 8}).read("train")


def make_training(name: str, images: ImageSet, model: nn.Module, batch_size: int = 32) -> Training:
    """320 digits, shuffled, learned at half the rate from the third step on."""
    batches = Batches(images, torch.arange(320), batch_size, Normalise((0.3,), (0.3,)), seed=0)
    optimizer = build_optimizer(choose(OPTIMIZERS, name), model, batch_size)
    return Training(
        network=Network(model, CPU),
        criterion=CROSS_ENTROPY,
        optimizer=optimizer,
        plain_step=plain_step(optimizer),
        schedule=lambda step, rows: 1.0 if step < 2 else 0.5,
        average=PlainWeights(optimizer),
        train=batches,
        valid=batches.in_order(),
        seed=0,
    )


class Keeper(Recorder):
    """Keeps the checkpoint of step 5 as a file would: a copy."""

    def save_last(self, contents):
        if contents["state"]["step"] == 5:
            self.snapshot = copy.deepcopy(contents)


@pytest.mark.parametrize("name", DENSE)
def test_ten_steps_are_five_and_five(name, images):
    plan = Plan(10, log_every=100, checkpoint_every=5, select_by="valid_accuracy")
    whole, journal, state = make_training(name, images, small_network()), Keeper(), State()
    fit(whole, plan, state, journal, StopRequest())
    resumed = make_training(name, images, small_network())
    state = restore(resumed, Path("last.pt"), journal.snapshot, rows=[])
    fit(resumed, plan, state, Recorder(), StopRequest())
    assert state.step == 10
    assert_same(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    assert_same(whole.optimizer.state_dict(), resumed.optimizer.state_dict())


@pytest.mark.parametrize("name", DENSE)
def test_every_optimizer_learns_the_digits_with_its_own_defaults(name, images):
    """Two of them are meant for batches of the whole set."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    whole_set = name in ("lbfgs", "rprop")
    training = make_training(name, images, model, batch_size=320 if whole_set else 32)
    num_steps = 10 if whole_set else 150
    fit(training, Plan(num_steps, 100, 200, "valid_accuracy"), state := State(), Recorder(), StopRequest())
    assert state.rows[-1]["valid_accuracy"] > 0.5  # chance is 0.1


def test_sparse_adam_refuses_dense_gradients_and_takes_sparse_ones():
    with pytest.raises(ConfigError, match="8 parameters have dense ones"):
        build_optimizer(choose(OPTIMIZERS, "sparse_adam"), small_network(), 8)
    table = nn.Embedding(10, 3, sparse=True)
    before = table.weight.detach().clone()
    optimizer = build_optimizer(choose(OPTIMIZERS, "sparse_adam", lr=0.1), table, 8)
    table(torch.tensor([2])).sum().backward()
    plain_step(optimizer)(lambda: None)
    changed = (table.weight != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [2]


def test_no_optimizer_loads_the_compiler():
    code = f"""
import sys, torch
from torch import nn
from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.stepping import plain_step
for name in {DENSE}:
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(OPTIMIZERS.parse("optimizer", {{"name": name}})[0], model, 4)
    def learn():
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        return None, loss
    learn()
    plain_step(optimizer)(learn)
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "adamax"])
def test_a_whole_number_is_a_number(name):
    """beta1: 0, as YAML reads it."""
    point = nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS[name]([{"params": [point]}], beta1=0, lr=1)
    point.grad = torch.ones(2)
    optimizer.step()
    assert point.isfinite().all()


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ConfigError, match="optimizer.nesterov: true was given beside momentum 0; expected a momentum"):
        OPTIMIZERS["sgd"]([{"params": [nn.Parameter(torch.ones(2))]}], nesterov=True)
