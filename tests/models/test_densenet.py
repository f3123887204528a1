import pytest
import torch
from torch import nn

from cnnlab.models.densenet import DenseLayer
from tests.models.pinned import CIFAR
from tests.models.published import assert_takes_torchvision_weights, build, layers_of, num_parameters


@pytest.mark.parametrize("name", ["densenet121", "densenet169"])
def test_takes_torchvision_weights(name):
    assert_takes_torchvision_weights(name, 64)


@pytest.mark.parametrize(
    ("name", "depth", "millions"),
    [("densenet40_k12", 40, 1.0), ("densenet100_k12", 100, 7.0), ("densenet_bc100_k12", 100, 0.8)],
)
def test_depth_and_parameters_of_table_2(name, depth, millions):
    network = build(name, CIFAR)
    weighted = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == depth
    assert round(num_parameters(network) / 1e6, 1) == millions


@pytest.mark.parametrize(("name", "depth"), [("densenet121", 121), ("densenet169", 169)])
def test_depth_of_table_1(name, depth):
    assert sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in build(name).modules()) == depth


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_layer_passes_its_input_on_and_adds_growth_rate_maps(bottleneck):
    layer = DenseLayer(5, growth_rate=3, bottleneck=bottleneck, dropout=0.0).eval()
    x = torch.randn(2, 5, 4, 4)
    out = layer(x)
    assert out.shape == (2, 8, 4, 4)
    assert torch.equal(out[:, :5], x)


@pytest.mark.parametrize("name", ["densenet40_k12", "densenet_bc100_k12", "densenet121"])
def test_dropout_follows_every_convolution_but_the_first(name):
    network = build(name, CIFAR, dropout=0.2)
    convs = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.2] * (convs - 1)


@pytest.mark.parametrize(
    ("name", "arguments", "maps"),
    [
        ("densenet40_k12", {}, (16 + 3 * 12 * 12, 8, 8)),
        ("densenet_bc100_k12", {}, (342, 8, 8)),
        ("densenet121", {"stem": "small"}, (1024, 4, 4)),
    ],
)
def test_maps_before_global_pooling_of_32x32_images(name, arguments, maps):
    assert layers_of(build(name, CIFAR, **arguments), 32)["avgpool"].in_shape == maps
