"""The small residual net: 512 features with padding 0, 1568 with padding 2, and not the other way round."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.models import MODELS
from cnnlab.models.residual_net import ResidualBlock
from cnnlab.models.shapes import require_size, trace_shapes
from tests.conftest import build_from


def build(image_size: int = 28, **arguments) -> nn.Module:
    facts = {"num_classes": 10, "in_channels": 1, "image_size": image_size}
    return build_from(MODELS, {"name": "residual_net", **arguments}, **facts)


def test_a_block_adds_two_convolutions_to_its_input():
    block = ResidualBlock(3)
    x = torch.randn(2, 3, 5, 5)
    expected = (x + block.conv2(block.conv1(x).clamp(min=0))).clamp(min=0)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    "padding, sides, num_features", [(0, [24, 12, 12, 8, 4, 4], 512), (2, [28, 14, 14, 14, 7, 7], 1568)]
)
def test_the_map_shrinks_as_the_padding_says(padding: int, sides: list[int], num_features: int):
    layers = require_size(build(padding=padding), in_channels=1, image_size=28)
    shapes = {layer.name: layer.out_shape for layer in layers}
    traced = [shapes[name][-1] for name in ("0", "2", "3.conv2", "4", "6", "7.conv2")]
    assert traced == sides
    assert shapes["8"] == (num_features,)
    assert layers[-1].in_shape == (num_features,)


def test_the_printed_512_inputs_fit_without_padding():
    network = build(in_features=512)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_printed_512_inputs_stop_at_the_linear_layer_with_padding_2():
    network = build(padding=2, in_features=512)
    layers, failure = trace_shapes(network, in_channels=1, image_size=28)
    assert failure is not None
    assert [layer.out_shape for layer in layers[-2:]] == [(1568,), None]
    message = r"layer '9' \(Linear\), which is given 1568 = 32·7·7; it has 512 inputs"
    with pytest.raises(ConfigError, match=message):
        require_size(network, in_channels=1, image_size=28)


def test_the_smallest_image_is_named():
    with pytest.raises(ConfigError, match="layer '6' .* the smallest image size that works is 16"):
        build(image_size=15)
    assert build(image_size=16)(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
