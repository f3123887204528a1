import re

import pytest
from torch import nn

from tests.models.pinned import CIFAR
from tests.models.published import assert_takes_torchvision_weights, build, layers_of, num_parameters

NAMES = ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]


@pytest.mark.parametrize("name", NAMES)
def test_takes_torchvision_weights(name):
    assert_takes_torchvision_weights(name, 32)


@pytest.mark.parametrize("name", NAMES)
def test_layers_with_weights_are_as_many_as_the_name_says(name):
    weighted = [module for module in build(name).modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == int(re.findall(r"\d+", name)[0])


@pytest.mark.parametrize(("name", "millions"), [("vgg11", 133), ("vgg13", 133), ("vgg16", 138), ("vgg19", 144)])
def test_parameters_of_table_2(name, millions):
    assert round(num_parameters(build(name)) / 1e6) == millions


@pytest.mark.parametrize("name", ["vgg11", "vgg19_bn"])
def test_small_classifier_is_one_linear_layer(name):
    network = build(name, CIFAR, classifier="small")
    assert num_parameters(network.classifier) == 512 * 10 + 10
    layers = layers_of(network, 32)
    assert layers["avgpool"].in_shape == (512, 1, 1)
    assert layers["classifier.0"].in_shape == (512,)
