"""Each group of each recipe is swapped for each other choice: it composes, passes the checks and assembles."""

from __future__ import annotations

import copy
from functools import cache

import hydra
import pytest
import torch

from cnnlab import distributed
from cnnlab.composition import CONF, resolve
from cnnlab.config import parse
from cnnlab.data import Facts
from cnnlab.errors import ConfigError
from cnnlab.experiment.network import build_network
from cnnlab.models.head import find_head
from cnnlab.optim.groups import build_optimizer
from cnnlab.recipes import compose_choices, leave_out_unchosen
from cnnlab.tasks import MULTICLASS, REGRESSION
from tests.test_conf import FILES

RECIPES = sorted(file.partition("/")[2] for file in FILES if file.startswith("experiment/"))
QUICK = ("cifar10_fast", "dogs_vs_cats", "linear_regression")  # rates of three kinds
GROUPS = ("model", "dataset", "augment", "optimizer", "schedule", "loss", "average", "engine")
# A choice that says by itself that it does not fit a recipe's other choices.
UNFIT = {"average=swa": "average: swa was given beside model.freeze"}


@cache
def compose(*overrides: str) -> dict:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        tree, choices = compose_choices(overrides)
        return resolve(leave_out_unchosen(tree, choices, overrides))


def swap(recipe: str, *overrides: str) -> dict:
    tree = copy.deepcopy(compose(f"experiment={recipe}", *overrides))
    if tree["dataset"].get("root") == "???":
        tree["dataset"]["root"] = "pictures"
    return tree


CHOICES = {group: [file.partition("/")[2] for file in FILES if file.startswith(f"{group}/")] for group in GROUPS}


@pytest.mark.slow  # minutes: seven hundred compositions
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("group", GROUPS)
def test_each_group_of_each_recipe_may_be_swapped_for_each_other_choice(recipe, group):
    """Its settings for the group go with its own choice; all others stay."""
    own = swap(recipe)
    for choice in CHOICES[group]:
        tree = swap(recipe, f"{group}={choice}")
        try:
            parse(tree)
        except ConfigError as error:
            expected = UNFIT.get(f"{group}={choice}")
            assert expected and own["model"]["freeze"] and error.problems[0].startswith(expected), error
        others = [key for key in tree if key not in (group, "name")]
        assert {key: tree[key] for key in others} == {key: own[key] for key in others}
        if tree[group] != own[group]:
            assert tree[group] == {**compose(f"{group}={choice}")[group], **needed(group, tree)}


def needed(group: str, tree: dict) -> dict:
    return {"root": tree["dataset"]["root"]} if group == "dataset" and "root" in tree["dataset"] else {}


@cache
def facts(recipe: str) -> Facts:
    if recipe == "linear_regression":
        return Facts(("y",), 1, 1, task=REGRESSION)
    return Facts(tuple(map(str, range(10))), 3 if "mnist" not in recipe and "fashion" not in recipe else 1, 32)


@pytest.mark.parametrize(
    "recipe", [recipe if recipe in QUICK else pytest.param(recipe, marks=pytest.mark.slow) for recipe in RECIPES]
)
def test_optimizers_of_each_recipe_fit_every_network_that_takes_its_images(recipe):
    for model in ("mlp", "resnet20", "mobilenet_v2", "densenet40_k12", "vgg11_bn", "shufflenet_v2_x0_5"):
        config = parse(swap(recipe, f"model={model}"))
        size = 1 if facts(recipe).task is REGRESSION else 32
        if size == 1 and model != "mlp":
            continue
        network = build_network(config, facts(recipe), torch.device("cpu"), trained=True)
        optimizer = build_optimizer(config.optimizer, network.model, config.batch_size, (), find_head)
        assert {p for group in optimizer.param_groups for p in group["params"]} == set(network.model.parameters())


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "efficientnet_b0", "squeezenet1_1", "vit_b_16"])
def test_the_head_of_every_network_has_the_rate_that_is_given_for_it(arch):
    config = parse(swap("dogs_vs_cats", f"model.arch={arch}"))
    kind = Facts(("cat", "dog"), 3, 224, task=MULTICLASS)
    network = build_network(config, kind, torch.device("cpu"), trained=True)
    optimizer = build_optimizer(config.optimizer, network.model, config.batch_size, (), find_head)
    names = {p: name for name, p in network.model.named_parameters()}
    fast = {names[p] for g in optimizer.param_groups for p in g["params"] if g["lr"] == pytest.approx(0.03)}
    head = find_head(network.model)
    assert fast == {f"{head}.weight", f"{head}.bias"}


def test_what_is_typed_stays():
    tree = swap("cifar10_resnet18", "optimizer=adamw", "optimizer.lr=0.5", "++optimizer.clip_norm=2")
    assert (tree["optimizer"]["lr"], tree["optimizer"]["clip_norm"], "momentum" in tree["optimizer"]) == (0.5, 2, False)
    assert swap("cifar10_resnet18", "optimizer.lr=0.5")["optimizer"]["momentum"] == 0.9
    assert parse(tree).batch_size == 256


@pytest.mark.parametrize(
    ("recipe", "choice"),
    [
        ("cifar10_resnet18", "optimizer=adamw"),
        ("dog_breeds_resnet34", "schedule=cosine"),
        ("dogs_vs_cats", "model=resnet18"),
        ("dogs_vs_cats", "augment=flip_crop"),
        ("lenet_fashion", "dataset=digits"),
    ],
)
def test_a_recipe_takes_another_choice(recipe, choice):
    parse(swap(recipe, choice))


@pytest.mark.parametrize("choice", ["flip_crop", "[flip_crop,mixup]", "[shift,cutmix]", "none"])
def test_a_list_of_a_recipe_takes_another_choice(choice):
    """cifar10_fast chooses two augmentations and sets the edge of one."""
    assert swap("cifar10_fast", f"augment={choice}")["augment"] == compose(f"augment={choice}")["augment"]
    same = swap("cifar10_fast", "augment=[alternating_flip,shift]")["augment"]
    assert same == swap("cifar10_fast")["augment"] and same["translate"]["edge"] == "reflect"


def test_a_choice_of_a_recipe_takes_a_list(capsys, monkeypatch):
    monkeypatch.setattr(distributed, "_SAID", set())
    compose.cache_clear()
    assert swap("dogs_vs_cats", "augment=[shift,mixup]")["augment"] == compose("augment=[shift,mixup]")["augment"]
    assert "is left out for augment=[shift,mixup]" in capsys.readouterr().err


def test_what_is_left_out_is_said(capsys, monkeypatch):
    monkeypatch.setattr(distributed, "_SAID", set())
    compose.cache_clear()
    swap("dogs_vs_cats", "model=resnet18", "augment=flip_crop")
    said = capsys.readouterr().err
    assert (
        "experiment=dogs_vs_cats: what it sets in model goes with model=torchvision, and is left out for model=resnet18"
        in said
    )
