"""Which parameters share a rate and a decay."""

from __future__ import annotations

import pytest
import yaml
from torch import nn

from cnnlab.composition import CONF
from cnnlab.config import parse
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.registry import ForEveryOptimizer
from tests.conftest import SMALL, choose, compose_tree


def network() -> nn.Module:
    return nn.ModuleDict(
        {"layer1": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "layer10": nn.Linear(2, 2), "head": nn.PReLU()}
    )


def settings(**given) -> dict[str, tuple[float, float]]:
    """Name of each parameter → its rate and its decay."""
    model = network()
    sgd = choose(OPTIMIZERS, "sgd", lr=0.8, weight_decay=0.1, **given)
    optimizer = build_optimizer(sgd, model, batch_size=32)
    names = {p: name for name, p in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def test_by_default_there_is_one_group_as_in_plain_torch():
    optimizer = build_optimizer(choose(OPTIMIZERS, "sgd"), model := network(), 32)
    (group,) = optimizer.param_groups
    assert group["params"] == list(model.parameters())


def test_biases_and_norms_keep_out_of_decay_when_asked():
    found = settings(decay_norms_and_biases=False)
    assert {name for name, (_, decay) in found.items() if decay} == {"layer1.0.weight", "layer10.weight"}
    assert {decay for _, decay in found.values()} == {0.0, 0.1}


def test_the_longest_start_of_a_name_decides_its_rate():
    found = settings(rates={"layer1": 0.5, "layer1.0.bias": 2.0})
    assert {name: rate for name, (rate, _) in found.items() if rate != 0.8} == {
        "layer1.0.weight": 0.4,
        "layer1.0.bias": 1.6,
        "layer1.1.weight": 0.4,
        "layer1.1.bias": 0.4,
    }


def test_norms_and_biases_have_a_factor_that_comes_on_top():
    found = settings(rates={"layer1": 0.5, "norms_and_biases": 10})
    assert {name: rate for name, (rate, _) in found.items()} == {
        "layer1.0.weight": 0.4,
        "layer1.0.bias": 4.0,
        "layer1.1.weight": 4.0,
        "layer1.1.bias": 4.0,
        "layer10.weight": 0.8,
        "layer10.bias": 8.0,
        "head.weight": 8.0,
    }


def test_the_first_group_is_one_at_the_plain_rate():
    """Its rate is the one that is logged."""
    optimizer = build_optimizer(choose(OPTIMIZERS, "sgd", lr=1.0, rates={"layer1": 0.5}), network(), 32)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.5]


def test_a_name_that_nothing_starts_with_is_told_with_near_ones():
    with pytest.raises(ConfigError, match=r"no parameter's name starts with 'layer2'; did you mean layer1"):
        settings(rates={"layer2": 0.5})
    with pytest.raises(ConfigError, match="no parameter's name starts with 'hea'; did you mean head"):
        settings(rates={"hea": 0.5})


@pytest.mark.parametrize(("scale_to_batch", "rate"), [(None, 0.8), (32, 0.8), (256, 0.1), (8, 3.2)])
def test_the_rate_may_be_meant_for_another_batch_size(scale_to_batch, rate):
    (found,) = {lr for lr, _ in settings(scale_to_batch=scale_to_batch).values()}
    assert found == pytest.approx(rate)


def test_muon_keeps_rates_and_decay_of_its_groups():
    model = network()
    muon = choose(OPTIMIZERS, "muon", lr=1.0, decay_norms_and_biases=False, rates={"layer10": 0.1})
    groups = build_optimizer(muon, model, 32).param_groups
    found = {(g["orthogonal"], g["lr"], g["weight_decay"]): len(g["params"]) for g in groups}
    assert found == {(True, 1.0, 0.1): 1, (False, 1.0, 0.0): 4, (True, 0.1, 0.1): 1, (False, 0.1, 0.0): 1}


def test_one_rate_for_all_is_all_that_lbfgs_takes():
    with pytest.raises(ConfigError, match="optimizer: LBFGS doesn't support"):
        build_optimizer(choose(OPTIMIZERS, "lbfgs", rates={"layer1": 0.1}), network(), 32)


# --- As typed ---------------------------------------------------------------------------------------------


def test_the_shared_keys_stand_in_train_yaml_with_their_defaults():
    shown = yaml.safe_load((CONF / "train.yaml").read_text())["optimizer"]
    assert shown == vars(ForEveryOptimizer()) and set(shown) == set(OPTIMIZERS.shared_arguments())


def test_rates_from_the_command_line():
    assembly = assemble(parse(compose_tree(*SMALL, "++optimizer.rates={0: 0.5, 3.weight: 0.1}")))
    names = {p: name for name, p in assembly.network.model.named_parameters()}
    groups = {round(group["lr"], 6): [names[p] for p in group["params"]] for group in assembly.optimizer.param_groups}
    assert groups[0.0015] == ["0.weight", "0.bias"] and groups[0.0003] == ["3.weight"] and len(groups[0.003]) == 7
    with pytest.raises(ConfigError, match="starts with '4'; did you mean|starts with '4'; valid here: 0"):
        assemble(parse(compose_tree(*SMALL, "++optimizer.rates={4: 0.5}")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("optimizer.rates={conv1: -1}", "expected mapping of names to float above 0"),
        ("optimizer.rates=3", "expected mapping of names to float above 0"),
        ("optimizer.scale_to_batch=0", "expected int at least 1 or null"),
        ("+optimizer.decay_norms=false", "no such key; did you mean decay_norms_and_biases?"),
    ],
)
def test_mistakes_in_the_shared_keys_are_told(given, told):
    with pytest.raises(ConfigError, match=told):
        parse(compose_tree(*SMALL, f"++{given.lstrip('+')}"))


def test_parameters_that_begin_late_are_apart():
    """torch's fused kernels refuse a group in which some have a momentum and others have none yet."""
    model = network()
    late = list(model["layer1"].parameters())
    groups = build_optimizer(choose(OPTIMIZERS, "sgd", momentum=0.9), model, 32, late).param_groups
    assert [group["params"] for group in groups] == [late, [p for p in model.parameters() if p not in set(late)]]
