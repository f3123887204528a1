"""Receptive fields: by hand, as published, and as the gradient shows them."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlab.models import MODELS
from cnnlab.models.receptive_field import ReceptiveFields
from cnnlab.models.summary import summarize
from tests.conftest import build_from
from tests.models.pinned import CIFAR, IMAGENET, MNIST
from tests.models.published import build


def fields_of(name: str, facts: dict = IMAGENET, **arguments: object) -> dict[str, tuple[int, int] | None]:
    summary = summarize(build(name, facts, **arguments), facts["in_channels"], facts["image_size"])
    return {row.name: row.receptive_field for row in summary.rows}


def test_lenet_by_hand():
    """5, then pooling 5 + 1; from there positions are 2 apart: 6 + 4·2, and pooling 14 + 2."""
    fields = fields_of("lenet", MNIST)
    assert [fields[name] for name in ("0", "2", "3", "5")] == [(5, 5), (6, 6), (14, 14), (16, 16)]
    assert fields["6"] is None and fields["11"] is None


@pytest.mark.parametrize(
    "name, layer, size",
    [
        # stem 7 + 2·2 = 11; then 2·(k-1)·jump for jumps 4, 8, 16, 32, the first 3×3 of a stage at the jump before it:
        # 11 + 3·8 = 35; 35 + 8 + 3·16 = 91; 91 + 16 + 5·32 = 267; 267 + 32 + 2·64 = 427.
        ("resnet50", "layer1.2.bn3", 35),
        ("resnet50", "layer2.3.bn3", 91),
        ("resnet50", "layer3.5.bn3", 267),
        ("resnet50", "layer4.2.bn3", 427),
        # 7, 11 and 19 in the stem, 27 after its pooling; 16 for each 3×3 at jump 8, 32 at 16, 64 at 32.
        ("googlenet", "maxpool2", 27),
        ("googlenet", "inception3b.branch3.1.conv", 59),
        ("googlenet", "inception4e.branch2.1.conv", 235),
        ("googlenet", "inception5b.branch2.1.conv", 379),
        ("googlenet", "inception5b.branch1.conv", 315),  # a 1×1 branch sees no more than the block before
        # Araujo et al. 2019, table 1, have these four.
        ("alexnet", "features.12", 195),
        ("vgg16", "features.30", 212),
        ("resnet18", "layer4.1.bn2", 435),
        ("mobilenet_v1", "features.13.pointwise.0", 315),
    ],
)
def test_known_networks(name: str, layer: str, size: int):
    assert known_fields(name)[layer] == (size, size)


@cache
def known_fields(name: str) -> dict[str, tuple[int, int] | None]:
    return fields_of(name)


# --- Against the gradient ---------------------------------------------------------------------------------


class Odd(nn.Module):
    """What no layer shows: pooling and padding by function, slices, unequal branches, rectangles, dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 2, (1, 5), padding=(0, 2))
        self.dilated = nn.Conv2d(2, 2, 3, dilation=3, padding=3)
        self.last = nn.Conv2d(4, 4, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(F.pad(x, (1, 0, 2, 1)))[:, :, 1::2, :-1]
        branches = [self.dilated(x), F.avg_pool2d(x, 3, stride=1, padding=1)]
        x = torch.cat(branches, dim=1).unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)
        return self.last(x)


def trunk(name: str, **arguments: object) -> nn.Module:
    """A network up to its global pooling, averaging where it would take a maximum, which hides pixels."""
    network = build_from(MODELS, {"name": name, **arguments}, num_classes=2, in_channels=1, image_size=96)
    layers = []
    for layer in network.children():
        if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.Flatten)):
            break
        layers.append(layer)
    return nn.Sequential(*layers)


def see_through(network: nn.Module) -> nn.Module:
    """All weights positive and small, so that a gradient reaches every pixel that matters; doubles, no noise."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                pooling = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                module.set_submodule(name, pooling)
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            nn.init.constant_(module.weight, 0.1 if isinstance(module, nn.Conv2d) else 1.0)
    return network.double().eval()


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(Odd, id="odd"),
        pytest.param(lambda: trunk("two_conv"), id="two_conv"),
        pytest.param(lambda: trunk("residual_net"), id="residual_net"),
        pytest.param(lambda: trunk("inception_net"), id="inception_net"),
        pytest.param(lambda: trunk("residual_variants", depth=8), id="residual_variants"),
        pytest.param(lambda: trunk("shufflenet_v2_x0_5", stem="small")[:2], id="shufflenet_v2"),
        pytest.param(lambda: trunk("googlenet")[:7], id="googlenet"),
    ],
)
def test_the_gradient_of_one_position_covers_the_field(network):
    torch.manual_seed(0)
    network = see_through(network())
    images = torch.ones(1, 1, 96, 96, dtype=torch.double)
    with torch.no_grad(), ReceptiveFields(images) as fields:
        size = fields.size_of(network(images))

    images.requires_grad_()
    output = network(images)
    centre = output.shape[2] // 2, output.shape[3] // 2
    output[0, :, centre[0], centre[1]].sum().backward()
    rows, columns = images.grad[0, 0].nonzero(as_tuple=True)
    assert size == (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)


# --- Where there is none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.flatten(1),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x * F.adaptive_avg_pool2d(x, 1),  # squeeze and excitation: every position sees all
        lambda x: x.transpose(2, 3),
        lambda x: F.interpolate(x, scale_factor=2),
    ],
)
def test_no_field_where_positions_have_no_place(operation):
    images = torch.ones(1, 2, 8, 8)
    with ReceptiveFields(images) as fields:
        assert fields.size_of(operation(images)) is None


def test_small_stem_of_cifar_networks():
    """3, then 2 for each of six convolutions; from there positions are 2 apart, and then 4."""
    fields = fields_of("resnet20", CIFAR)
    assert fields["layer1.2.bn2"] == (15, 15)
    assert fields["layer2.2.bn2"] == (15 + 2 + 5 * 4,) * 2
    assert fields["layer3.2.bn2"] == (37 + 4 + 5 * 8,) * 2
