"""What holds for every registered network, whatever is inside."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from cnnlab.models import INITS, MODELS
from cnnlab.models.registry import ForEveryModel
from tests.conftest import build_from
from tests.models.pinned import OPTIONAL, PARAMETERS

CONF = Path(__file__).parents[2] / "conf" / "model"

# Networks run on 32×32 images (28×28 for digits) with the builder's defaults, but for these.
IMAGE_SIZE = {"alexnet": 64}
ARGUMENTS = {name: {"classifier": "small"} for name in MODELS if name.startswith("vgg")}

# Too large to run with every test: `-m slow` runs them.
LARGE = {
    "densenet100_k12",
    "densenet_bc100_k12",
    "resnet101",
    "resnet110",
    "resnet152",
    "resnet164",
    "resnet1001",
    "resnext101_32x8d",
    "resnext29_8x64d",
}

# Layers whose output depends on the mode of the network: the statistics of the batch, and chance.
MODAL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)


def build(name: str) -> nn.Module:
    return build_from(MODELS, {"name": name, **ARGUMENTS.get(name, {})}, **facts_of(name))


def facts_of(name: str) -> dict[str, int]:
    facts, _ = PARAMETERS[name]
    return {
        "num_classes": 10,
        "in_channels": facts["in_channels"],
        "image_size": IMAGE_SIZE.get(name, min(facts["image_size"], 32)),
    }


def images_for(name: str) -> torch.Tensor:
    facts = facts_of(name)
    shape = (4, facts["in_channels"], facts["image_size"], facts["image_size"])
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# --- Files and tables -----------------------------------------------------------------------------


def test_every_network_has_a_pinned_count_and_a_file():
    assert set(PARAMETERS) == set(MODELS) - OPTIONAL
    assert {path.stem for path in CONF.glob("*.yaml")} == set(MODELS)


@pytest.mark.parametrize("name", list(MODELS))
def test_file_names_every_argument_with_its_default(name):
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    given = yaml.safe_load(text)
    defaults = {key: parameter.default for key, parameter in MODELS.arguments(name).items()}
    expected = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    shared = {"init": given["init"]} if "init" in given else {}  # of all that is shared, a network may prefer one
    # as text, in which order counts and 1 is not 1.0
    assert repr(given) == repr({"name": name, **expected, **shared})
    component, problems = MODELS.parse("model", given)
    assert problems == [] and component.arguments == defaults
    assert component.shared == ForEveryModel(**shared) and component.shared.init in (None, *INITS)
    assert text.startswith("# ")


def test_the_shared_keys_stand_in_train_yaml_with_their_defaults():
    shown = yaml.safe_load((CONF.parent / "train.yaml").read_text(encoding="utf-8"))["model"]
    assert shown == vars(ForEveryModel()) and set(shown) == set(MODELS.shared_arguments())


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_parameter_count_is_the_pinned_one(name):
    facts, expected = PARAMETERS[name]
    with torch.device("meta"):
        network = build_from(MODELS, {"name": name}, **facts)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


# --- Running --------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in PARAMETERS],
)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name: str) -> nn.Module:
    """One network for all tests of a name, in which signals neither die nor explode.

    Its weights are made for ReLUs, and its running statistics have met one batch. They stay as they are then.
    """
    torch.manual_seed(0)
    network = build(name)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        network.train()(images_for(name))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return network


@torch.no_grad()
def logits_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network.eval()(images)


def test_every_parameter_that_learns_gets_a_finite_gradient(name, network):
    logits = network.train()(images_for(name))
    assert logits.shape == (4, 10)
    network.zero_grad()
    logits.square().sum().backward()
    gradients = {key: parameter.grad for key, parameter in network.named_parameters() if parameter.requires_grad}
    assert [key for key, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    assert [key for key, gradient in gradients.items() if not gradient.isfinite().all()] == []


def test_mode_matters_to_modal_layers_only(name, network):
    expected = logits_of(network, images_for(name))
    network.train()
    for module in network.modules():
        if isinstance(module, MODAL):
            module.eval()
    with torch.no_grad():
        assert torch.equal(network(images_for(name)), expected)


def test_channels_last_gives_the_same_logits(name, network):
    expected = logits_of(network, images_for(name))
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)
    logits = logits_of(twin, images_for(name).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * expected.std().item())


def test_bfloat16_autocast_gives_nearly_the_same_logits(name, network):
    expected = logits_of(network, images_for(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = logits_of(network, images_for(name))
    assert logits.dtype == torch.bfloat16
    assert torch.cosine_similarity(logits.float().flatten(), expected.flatten(), dim=0) > 0.99


def test_state_dict_holds_everything(name, network):
    """A twin that has nothing but the state gives the same logits."""
    with torch.device("meta"):
        twin = build(name)
    twin.load_state_dict(network.state_dict(), assign=True)
    images = images_for(name)
    assert torch.equal(logits_of(twin, images), logits_of(network, images))


def smallest_of_each_family() -> list[str]:
    smallest: dict[str, str] = {}
    for name in sorted(PARAMETERS, key=lambda name: PARAMETERS[name][1]):
        smallest.setdefault(MODELS[name].__module__, name)
    return sorted(smallest.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", smallest_of_each_family())
def test_compiled_network_gives_the_same_logits(name):
    """`fullgraph` refuses a network whose forward pass falls back to Python."""
    torch.compiler.reset()
    torch.manual_seed(0)
    network = build(name)
    expected = logits_of(network, images_for(name))
    logits = logits_of(torch.compile(network, fullgraph=True), images_for(name))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * expected.std().item())
