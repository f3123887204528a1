"""The table of layers: its sums, what torch counts, and layers that are not as simple as they look."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from cnnlab.models import MODELS
from cnnlab.models.summary import Row, measure_activations, summarize
from tests.conftest import build_from
from tests.models.pinned import IMAGENET, MNIST, PARAMETERS
from tests.models.published import build, multiply_adds, num_parameters
from tests.models.test_models import LARGE


def work_by_hand(row: Row, module: nn.Module) -> int:
    """Multiplications for one image: each output of a layer sums as many products as its kernel has weights."""
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        return 0
    assert row.out_shape is not None
    return math.prod(row.out_shape) * math.prod(module.weight.shape[1:])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in PARAMETERS]
)
def test_multiply_adds_and_parameters_agree_with_torch_and_by_hand(name):
    facts, count = PARAMETERS[name]
    network = build(name, facts)
    summary = summarize(network, facts["in_channels"], facts["image_size"])
    assert summary.failure is None
    assert summary.multiply_adds == multiply_adds(network, facts["image_size"], facts["in_channels"])
    assert sum(row.multiply_adds for row in summary.rows) == summary.multiply_adds
    assert sum(row.parameters for row in summary.rows) == summary.parameters == count
    layers = dict(network.named_modules())
    for row in summary.rows:
        assert row.multiply_adds == work_by_hand(row, layers[row.name])


@pytest.mark.parametrize("arch", ["resnet34", "vit_b_16", "swin_t", "convnext_tiny", "mobilenet_v3_small"])
def test_backbones_have_torchvisions_figures(arch):
    """With attention, which torch's fused form for evaluation would hide."""
    network = build("torchvision", IMAGENET, arch=arch)
    summary = summarize(network, 3, 224)
    published = models.get_model_weights(arch).DEFAULT.meta
    assert summary.parameters == published["num_params"] == sum(row.parameters for row in summary.rows)
    assert summary.multiply_adds / 1e9 == pytest.approx(published["_ops"], abs=0.001)
    assert sum(row.multiply_adds for row in summary.rows) == summary.multiply_adds
    assert torch.backends.mha.get_fastpath_enabled()


# --- What is not a plain chain of layers ------------------------------------------------------------------


class Tangled(nn.Module):
    """A layer called twice, a weight shared by two layers, a parameter and a product of its own, a tuple, a
    keyword, a layer never called."""

    class Pair(nn.Module):
        def forward(self, *, x: torch.Tensor) -> tuple[torch.Tensor, int]:
            return x.relu(), 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)
        self.right.weight = self.left.weight
        self.pair = self.Pair()
        self.scale = nn.Parameter(torch.ones(4, 4))
        self.unused = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.pair(x=self.conv(self.conv(x)))
        x = F.max_pool2d(x, 2).mean((2, 3))
        return self.right(self.left(x @ self.scale))


def test_layers_called_twice_shared_and_unused():
    summary = summarize(Tangled(), in_channels=4, image_size=6)
    rows = {(row.name, index): row for index, row in enumerate(summary.rows)}
    assert [name for name, _ in rows] == ["(network)", "conv", "conv", "pair", "left", "right", "(between layers)"]
    whole, first, second, pair, left, right, between = rows.values()
    assert (first.parameters, second.parameters) == (144, 0)
    assert first.multiply_adds == second.multiply_adds == 36 * 144
    assert (first.receptive_field, second.receptive_field) == ((3, 3), (5, 5))
    assert pair.in_shape == pair.out_shape == (4, 6, 6)
    assert (left.parameters, right.parameters) == (16 + 4, 4)
    assert (whole.parameters, whole.multiply_adds, whole.out_shape) == (16, 16, (4,))
    assert between.parameters == 9 and between.multiply_adds == 0
    assert summary.parameters == num_parameters(Tangled())


def test_the_table_ends_where_the_image_is_stopped():
    network = build("residual_net", MNIST, padding=2, in_features=512)
    summary = summarize(network, 1, 28)
    assert summary.failure is not None
    assert [(row.name, row.in_shape, row.out_shape) for row in summary.rows[-2:]] == [
        ("8", (32, 7, 7), (1568,)),
        ("9", (1568,), None),
    ]


def test_the_network_stays_as_it_is():
    network = build_from(MODELS, {"name": "residual_variants", "depth": 8}, num_classes=2, in_channels=1)
    network[1].eval()
    modes = [module.training for module in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    summarize(network, 1, 8)
    measure_activations(network, 1, 8)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


# --- Memory -------------------------------------------------------------------------------------------------


def test_activations_by_hand():
    """Kept in 4-byte numbers: the image for the convolution, its output for ReLU's sign and for the pooling, the
    pooled map's 8-byte indices, the flattened map for the linear layer."""
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 3 * 3, 2))
    image, maps, pooled = 8 * 8, 3 * 6 * 6, 3 * 3 * 3
    assert measure_activations(network, 1, 8) == 4 * (image + maps + pooled) + 8 * pooled


def test_activations_of_frozen_layers_are_not_kept():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 2))
    assert measure_activations(network, 1, 8) == 4 * (64 + 8)
    network[1].requires_grad_(False)
    assert measure_activations(network, 1, 8) == 4 * 8
