"""ResNet and ResNeXt against torchvision's, the papers' figures, and the blocks' own formulas."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from cnnlab.models import MODELS
from cnnlab.models.resnet import BasicBlock, Bottleneck, ZeroPadding, projection, zero_padding
from cnnlab.models.shapes import trace_shapes
from tests.conftest import build_from

IMAGENET_NAMES = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d"),
]


def build(name: str, num_classes: int = 10, **arguments) -> nn.Module:
    return build_from(MODELS, {"name": name, **arguments}, num_classes=num_classes, in_channels=3, image_size=32)


def build_shapes_only(name: str, num_classes: int = 10, **arguments) -> nn.Module:
    """The network without numbers in its parameters, which takes no time or memory."""
    with torch.device("meta"):
        return build(name, num_classes, **arguments)


def make_statistics_matter(network: nn.Module) -> None:
    """Random running means and variances, which are 0 and 1 in a network that was never trained."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


@pytest.mark.parametrize("name", IMAGENET_NAMES)
def test_torchvision_weights_load_and_give_the_same_logits(name: str):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    make_statistics_matter(theirs)
    ours = build_shapes_only(name, num_classes=7).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), assign=True)

    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name, millions, digits",
    [
        ("resnet20", 0.27, 2),
        ("resnet32", 0.46, 2),
        ("resnet44", 0.66, 2),
        ("resnet56", 0.85, 2),
        ("resnet110", 1.7, 1),
        ("resnext29_8x64d", 34.4, 1),
    ],
)
def test_parameters_are_as_many_as_the_papers_say(name: str, millions: float, digits: int):
    count = sum(parameter.numel() for parameter in build_shapes_only(name).parameters())
    assert round(count / 1e6, digits) == millions


@pytest.mark.parametrize(
    "name, num_layers",
    [
        *(("resnet18", 18), ("resnet34", 34), ("resnet50", 50), ("resnet101", 101), ("resnet152", 152)),
        *(("resnext50_32x4d", 50), ("resnext101_32x8d", 101), ("resnext29_8x64d", 29)),
        *(("resnet20", 20), ("resnet32", 32), ("resnet44", 44), ("resnet56", 56), ("resnet110", 110)),
        ("resnet18_cifar", 18),
    ],
)
def test_a_name_counts_the_convolutions_and_the_linear_layer(name: str, num_layers: int):
    layers = [
        path
        for path, module in build_shapes_only(name).named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and "downsample" not in path
    ]
    assert len(layers) == num_layers


def test_resnet18_cifar_halves_the_map_three_times():
    layers, failure = trace_shapes(build("resnet18_cifar"), in_channels=3, image_size=32)
    assert failure is None
    shapes = {layer.name: layer.out_shape for layer in layers}
    assert shapes["conv1"] == (64, 32, 32)
    assert shapes["layer1.1.bn2"] == (64, 32, 32)
    assert shapes["layer2.1.bn2"] == (128, 16, 16)
    assert shapes["layer3.1.bn2"] == (256, 8, 8)
    assert shapes["layer4.1.bn2"] == (512, 4, 4)
    assert shapes["avgpool"] == (512, 1, 1)


def test_resnet50_with_a_cifar_stem_keeps_the_map_before_its_second_stage():
    layers, _ = trace_shapes(build("resnet50", stem="small"), in_channels=3, image_size=32)
    shapes = {layer.name: layer.out_shape for layer in layers}
    assert shapes["layer1.2.bn3"] == (256, 32, 32)
    assert shapes["layer4.2.bn3"] == (2048, 4, 4)


def test_groups_of_resnext29_widen_with_the_stages():
    network = build_shapes_only("resnext29_8x64d")
    for stage, group_width in enumerate([64, 128, 256], start=1):
        convolution = network.get_submodule(f"layer{stage}.0.conv2")
        assert convolution.weight.shape == (8 * group_width, group_width, 3, 3)


def test_zero_padding_takes_every_second_pixel_and_adds_zeros():
    x = torch.arange(2 * 5 * 5.0).reshape(1, 2, 5, 5)
    y = ZeroPadding(in_channels=2, out_channels=5, stride=2)(x)
    assert y.shape == (1, 5, 3, 3)
    assert y[0, 0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert torch.equal(y[:, 2:], torch.zeros(1, 3, 3, 3))


def test_centred_zeros_stand_on_both_sides():
    x = torch.arange(1.0, 1 + 2 * 4 * 4).reshape(1, 2, 4, 4)
    y = ZeroPadding(in_channels=2, out_channels=4, stride=2, centred=True)(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert torch.equal(y[:, [0, 3]], torch.zeros(1, 2, 2, 2))
    assert ZeroPadding(16, 32, 2, centred=True).zeros == (8, 8)  # a quarter of the new channels on each side


@pytest.mark.parametrize(
    ("shortcut", "num_parameters"), [("zeros", 0), ("zeros_centred", 0), ("projection", 2 * 3)]
)  # a convolution, scale and shift
def test_what_a_cifar_network_does_where_it_widens(shortcut, num_parameters):
    learned = [key for key, _ in build("resnet20", shortcut=shortcut).named_parameters() if "downsample" in key]
    assert len(learned) == num_parameters


@pytest.mark.parametrize("shortcut", [projection, zero_padding])
def test_a_shortcut_is_the_identity_where_the_shape_stays(shortcut):
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(shortcut(4, 4, 1)(x), x)
    assert shortcut(4, 8, 2)(x).shape == (2, 8, 3, 3)
    assert shortcut(4, 8, 1)(x).shape == (2, 8, 6, 6)


def test_cifar_networks_learn_nothing_in_their_shortcuts():
    assert not [key for key in build_shapes_only("resnet56").state_dict() if "downsample" in key]


@pytest.mark.parametrize("make_block", [BasicBlock, Bottleneck])
def test_a_dropped_image_takes_the_shortcut_and_a_kept_one_is_scaled(make_block):
    torch.manual_seed(0)
    block = make_block(8, 8, 1, drop_path=0.25).eval()
    make_statistics_matter(block)
    x = torch.randn(64, 8, 4, 4)
    last_norm = block.bn3 if make_block is Bottleneck else block.bn2
    residuals = []
    last_norm.register_forward_hook(lambda module, inputs, output: residuals.append(output))
    with torch.no_grad():
        shortcut = block.downsample(x)
        assert torch.equal(block(x), torch.relu(shortcut + residuals[0]))  # evaluation drops nothing
        block.training = True  # this module alone: batch normalisation keeps to its running statistics
        y = block(x)

    dropped = (y == torch.relu(shortcut)).flatten(1).all(dim=1)
    assert 0 < dropped.sum() < 64
    kept = torch.relu(shortcut + residuals[1] / 0.75)
    torch.testing.assert_close(y[~dropped], kept[~dropped])


def test_drop_path_grows_linearly_to_the_last_block():
    blocks = [module for module in build("resnet20", drop_path=0.9).modules() if isinstance(module, BasicBlock)]
    assert [block.drop_path for block in blocks] == pytest.approx([0.1 * depth for depth in range(1, 10)])
