"""Heads of one's own, and what `model.freeze` names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.models import MODELS
from cnnlab.models.freezing import OnFeatures, find_frozen
from cnnlab.models.head import find_head, replace_head
from tests.conftest import build_from


def build(name: str, image_size: int = 32, **arguments) -> nn.Module:
    torch.manual_seed(0)
    return build_from(MODELS, {"name": name, **arguments}, num_classes=7, in_channels=3, image_size=image_size)


def frozen_names(network: nn.Module, freeze) -> set[str]:
    names = {p: name for name, p in network.named_parameters()}
    return {names[p] for p in find_frozen(network, freeze)[0]}


# --- Heads --------------------------------------------------------------------------------------------------


def test_the_notes_head():
    """resnet34 with linear 512→256, relu, linear 256→classes in the place of its last layer."""
    network = build("torchvision", arch="resnet34")
    replace_head(network, [256], dropout=0.0)
    assert [type(layer) for layer in network.fc] == [nn.Linear, nn.ReLU, nn.Linear]
    shapes = {name: tuple(p.shape) for name, p in network.fc.named_parameters()}
    assert shapes == {"0.weight": (256, 512), "0.bias": (256,), "2.weight": (7, 256), "2.bias": (7,)}
    assert find_head(network) == "fc"


def test_dropout_is_in_front_of_the_last_layer():
    network = build("resnet20")
    replace_head(network, [16, 8], dropout=0.5)
    assert [type(layer).__name__ for layer in network.fc] == [
        *("Linear", "ReLU", "Linear", "ReLU"),
        *("Dropout", "Linear"),
    ]
    plain = build("resnet20")
    replace_head(plain, [], dropout=0.5)
    assert [type(layer).__name__ for layer in plain.fc] == ["Dropout", "Linear"]


def test_only_a_linear_layer_can_be_replaced():
    with pytest.raises(ConfigError, match="model.head: the last layer, classifier.1, is a Conv2d; expected a network"):
        replace_head(build("torchvision", arch="squeezenet1_1"), [16], dropout=0.0)


# --- Freezing -----------------------------------------------------------------------------------------------


def test_the_backbone_is_all_but_the_head():
    network = build("torchvision", arch="resnet18")
    replace_head(network, [16], dropout=0.0)
    everything = {name for name, _ in network.named_parameters()}
    assert everything - frozen_names(network, "backbone") == {"fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"}
    modules = find_frozen(network, "backbone")[1]
    assert network.bn1 in modules and network.layer4[1].bn2 in modules
    assert not set(network.fc.modules()) & set(modules)


def test_names_are_whole_parts_of_the_path():
    network = build("resnet20")
    assert frozen_names(network, ["layer1.0"]) == {
        name for name, _ in network.named_parameters() if name.startswith("layer1.0.")
    }
    assert frozen_names(build("mnist_cnn", image_size=28), [0, "3"]) == {"0.weight", "0.bias", "3.weight", "3.bias"}


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        (["layr1", "conv1"], "model.freeze: no parameter's name starts with 'layr1'; did you mean layer1"),
        (["conv1", "bn1", "layer1", "layer2", "layer3", "fc"], "nothing is left to train"),
    ],
)
def test_names_that_cannot_be_frozen(freeze, told):
    with pytest.raises(ConfigError, match=told):
        find_frozen(build("resnet20"), freeze)


def test_a_network_that_is_all_head_has_no_backbone():
    with pytest.raises(ConfigError, match="all parameters are in the last layer"):
        find_frozen(build("linear"), "backbone")


# --- Features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet20", "densenet40_k12", "shufflenet_v2_x0_5", "preact_resnet18", "mobilenet_v2"]
)
def test_head_of_features_is_the_network(name):
    network = build(name).eval()
    on_features = OnFeatures(network).eval()
    assert on_features.ends_the_network(3, 32)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(on_features(on_features.extract_features(images)), network(images))


def test_extracting_features_changes_nothing():
    network = build("resnet20").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    features = OnFeatures(network).extract_features(torch.randn(4, 3, 32, 32))
    assert not features.requires_grad and features.shape == (4, 64)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_its_weights_are_the_whole_networks():
    network = build("resnet20")
    on_features = OnFeatures(network)
    assert on_features.state_dict().keys() == network.state_dict().keys()
    other = build("resnet20", drop_path=0.1)
    nn.init.ones_(other.fc.weight)
    on_features.load_state_dict(other.state_dict())
    assert torch.equal(network.fc.weight, torch.ones(7, 64))


def test_a_network_that_goes_on_after_its_last_layer_is_noticed():
    assert not OnFeatures(build("torchvision", arch="squeezenet1_1", image_size=64)).ends_the_network(3, 64)
