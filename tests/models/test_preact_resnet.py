"""Pre-activation ResNet against the paper's equations and counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlab.models import MODELS
from cnnlab.models.preact_resnet import PreActUnit, basic_branch, bottleneck_branch
from cnnlab.models.shapes import trace_shapes
from tests.conftest import build_from


def build(name: str, **arguments) -> nn.Module:
    return build_from(MODELS, {"name": name, **arguments}, num_classes=10, in_channels=3, image_size=32)


def test_a_unit_normalises_and_activates_before_each_convolution():
    torch.manual_seed(0)
    unit = PreActUnit(basic_branch, 4, 4, stride=1, is_first=False)
    norms = [module for module in unit.modules() if isinstance(module, nn.BatchNorm2d)]
    convs = [module for module in unit.modules() if isinstance(module, nn.Conv2d)]
    x = torch.randn(2, 4, 6, 6)
    expected = x + convs[1](norms[1](convs[0](norms[0](x).relu())).relu())
    torch.testing.assert_close(unit(x), expected)


def test_a_unit_that_changes_the_shape_projects_its_activated_input():
    unit = PreActUnit(bottleneck_branch, 8, 16, stride=2, is_first=False)
    x = torch.randn(2, 8, 6, 6)
    activated = unit.activation(x)
    torch.testing.assert_close(unit(x), unit.projection(activated) + unit.branch(activated))
    assert unit(x).shape == (2, 16, 3, 3)


@pytest.mark.parametrize("branch", [basic_branch, bottleneck_branch])
def test_a_unit_whose_branch_is_silent_passes_everything_on(branch):
    unit = PreActUnit(branch, 8, 8, stride=1, is_first=False)
    nn.init.zeros_(unit.branch[-1].weight)
    x = torch.randn(2, 8, 4, 4)  # negative numbers too, which a ReLU after the addition would cut
    assert torch.equal(unit(x), x)


def test_features_are_the_stem_plus_every_branch():
    """Equation 4 of the paper: x_L is x_l and the sum of the residuals between."""
    torch.manual_seed(0)
    network = build("preact_resnet18", stem="small").eval()
    terms = []
    network.stem.register_forward_hook(lambda module, inputs, output: terms.append(output))
    for unit in network.stage1:
        unit.branch.register_forward_hook(lambda module, inputs, output: terms.append(output))
    features = []
    network.stage1.register_forward_hook(lambda module, inputs, output: features.append(output))
    with torch.no_grad():
        network(torch.randn(1, 3, 16, 16))
    assert len(terms) == 3
    torch.testing.assert_close(features[0], sum(terms))


@pytest.mark.parametrize("name, millions", [("resnet164", 1.7), ("resnet1001", 10.2)])
def test_the_papers_counts_leave_batch_normalisation_out(name: str, millions: float):
    with torch.device("meta"):
        network = build(name)
    weighted = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    count = sum(parameter.numel() for module in weighted for parameter in module.parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
    "name, num_layers",
    [
        *(("preact_resnet18", 18), ("preact_resnet34", 34), ("preact_resnet50", 50)),
        *(("resnet164", 164), ("resnet1001", 1001)),
    ],
)
def test_a_name_counts_the_convolutions_and_the_linear_layer(name: str, num_layers: int):
    with torch.device("meta"):
        network = build(name)
    layers = [
        path
        for path, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and "projection" not in path
    ]
    assert len(layers) == num_layers


def test_there_is_one_norm_for_each_convolution():
    """The stem's convolution has none before it, and the pooling has one: 163 of each."""
    with torch.device("meta"):
        network = build("resnet164")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 163


@pytest.mark.parametrize("stem, sides", [("imagenet", [16, 8, 4, 2]), ("small", [64, 32, 16, 8])])
def test_each_stage_but_the_first_halves_the_map(stem: str, sides: list[int]):
    network = build("preact_resnet18", stem=stem)
    layers, failure = trace_shapes(network, in_channels=3, image_size=64)
    assert failure is None
    shapes = {layer.name: layer.out_shape for layer in layers}
    last_convs = [shapes[f"stage{stage}.1.branch.3"] for stage in (1, 2, 3, 4)]
    assert last_convs == [(channels, side, side) for channels, side in zip([64, 128, 256, 512], sides, strict=True)]
