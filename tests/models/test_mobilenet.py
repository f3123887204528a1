import pytest
import torch
from torch import nn

from cnnlab.models.mobilenet import InvertedResidual, scale
from tests.models.pinned import CIFAR
from tests.models.published import (
    assert_takes_torchvision_weights,
    build,
    layers_of,
    multiply_adds,
    num_parameters,
)


@pytest.mark.parametrize(
    ("width", "millions_of_multiply_adds", "millions_of_parameters"),
    [(1.0, 569, 4.2), (0.75, 325, 2.6), (0.5, 149, 1.3), (0.25, 41, 0.5)],
)
def test_v1_has_the_sizes_of_table_6(width, millions_of_multiply_adds, millions_of_parameters):
    network = build("mobilenet_v1", width=width)
    assert round(multiply_adds(network, 224) / 1e6) == millions_of_multiply_adds
    assert round(num_parameters(network) / 1e6, 1) == millions_of_parameters


@pytest.mark.parametrize(("size", "millions"), [(224, 569), (192, 418), (160, 290), (128, 186)])
def test_v1_has_the_multiply_adds_of_table_7(size, millions):
    assert multiply_adds(build("mobilenet_v1"), size) / 1e6 == pytest.approx(millions, abs=1)


def test_v1_has_28_layers_and_ends_in_7x7_maps():
    network = build("mobilenet_v1")
    assert sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in network.modules()) == 28
    layers = layers_of(network, 224)
    assert layers["features.0.0"].out_shape == (32, 112, 112)
    assert layers["avgpool"].in_shape == (1024, 7, 7)


@pytest.mark.parametrize("width", [1.0, 0.5, 1.4])
def test_v2_takes_torchvision_weights(width):
    assert_takes_torchvision_weights("mobilenet_v2", 64, {"width_mult": width}, width=width)


def test_v2_has_the_multiply_adds_of_table_4():
    assert round(multiply_adds(build("mobilenet_v2"), 224) / 1e6, -1) == 300
    assert round(multiply_adds(build("mobilenet_v2", width=1.4), 224) / 1e6) == pytest.approx(585, abs=5)


def test_v2_joins_only_ends_of_the_same_shape():
    x = torch.randn(2, 8, 6, 6)
    joined, wider, halved = (
        InvertedResidual(8, out_channels, expansion=6, stride=stride).eval()
        for out_channels, stride in [(8, 1), (16, 1), (8, 2)]
    )
    torch.testing.assert_close(joined(x), x + joined.conv(x))
    assert torch.equal(wider(x), wider.conv(x))
    assert torch.equal(halved(x), halved.conv(x))


@pytest.mark.parametrize("width", [0.01, 0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_scaled_channels_are_near_multiples_of_8(width):
    for channels in (16, 24, 32, 64, 96, 160, 320, 1280):
        scaled, wanted = scale(channels, width), channels * width
        assert scaled % 8 == 0
        assert scaled >= max(8, 0.9 * wanted)
        assert scaled == 8 or scaled - wanted < 8


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_small_stem_leaves_2x2_maps_of_32x32_images(name):
    layers = layers_of(build(name, CIFAR, stem="small"), 32)
    assert layers["avgpool"].in_shape[1:] == (2, 2)
