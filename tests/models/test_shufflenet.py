import pytest
import torch
from torch import nn

from cnnlab.models.shufflenet import CHANNELS_V1, ShuffleUnit, SplitUnit, shuffle_channels
from tests.models.pinned import CIFAR
from tests.models.published import (
    assert_takes_torchvision_weights,
    build,
    layers_of,
    multiply_adds,
    num_parameters,
)


def test_the_shuffle_deals_groups_out_in_turn():
    maps = torch.arange(6).reshape(1, 6, 1, 1)
    assert shuffle_channels(maps, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffle_channels(maps, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(shuffle_channels(shuffle_channels(maps, 2), 3), maps)


@pytest.mark.parametrize(("groups", "millions"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_v1_has_the_multiply_adds_of_table_1(groups, millions):
    """The table leaves the linear layer out."""
    network = build("shufflenet_v1", groups=groups)
    convolutions = multiply_adds(network, 224) - network.fc.weight.numel()
    assert convolutions / 1e6 == pytest.approx(millions, abs=0.5)


@pytest.mark.parametrize("groups", CHANNELS_V1)
def test_v1_has_the_maps_of_table_1(groups):
    layers = layers_of(build("shufflenet_v1", groups=groups), 224)
    stage2, stage3, stage4 = CHANNELS_V1[groups]
    assert layers["stage2.0.reduce.0"].in_shape == (24, 56, 56)
    assert layers["stage3.0.reduce.0"].in_shape == (stage2, 28, 28)
    assert layers["stage4.0.reduce.0"].in_shape == (stage3, 14, 14)
    assert layers["avgpool"].in_shape == (stage4, 7, 7)


def test_v1_mixes_groups_only_through_the_shuffle():
    torch.manual_seed(0)
    unit = ShuffleUnit(36, 36, stride=1, groups=3, first_groups=3).eval()
    nn.init.constant_(unit.reduce[1].bias, 10.0)  # keeps every ReLU open

    def inputs_seen_by_the_first_group() -> int:
        x = torch.randn(1, 36, 4, 4, requires_grad=True)
        new = unit.expand(unit.spatial(shuffle_channels(unit.reduce(x), unit.groups)))
        new[:, :12].sum().backward()
        return int((x.grad.abs().amax(dim=(0, 2, 3)) > 0).sum())

    assert inputs_seen_by_the_first_group() == 36
    unit.groups = 1  # dealing out one group changes nothing
    assert inputs_seen_by_the_first_group() == 12


@pytest.mark.parametrize(
    ("name", "millions_of_parameters", "millions_of_multiply_adds"),
    [
        ("shufflenet_v2_x0_5", 1.4, 41),
        ("shufflenet_v2_x1_0", 2.3, 146),
        ("shufflenet_v2_x1_5", 3.5, 299),
        ("shufflenet_v2_x2_0", 7.4, 591),
    ],
)
def test_v2_has_the_sizes_of_table_8(name, millions_of_parameters, millions_of_multiply_adds):
    network = build(name)
    assert round(num_parameters(network) / 1e6, 1) == millions_of_parameters
    assert multiply_adds(network, 224) / 1e6 == pytest.approx(millions_of_multiply_adds, rel=0.015)


@pytest.mark.parametrize("size", ["x0_5", "x1_0", "x1_5", "x2_0"])
def test_v2_takes_torchvision_weights(size):
    assert_takes_torchvision_weights(f"shufflenet_v2_{size}", 64)


def test_v2_passes_half_of_the_maps_on_at_stride_1():
    unit = SplitUnit(8, 8, stride=1).eval()
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(unit(x)[:, 0::2], x[:, :4])
    assert torch.equal(unit(x)[:, 1::2], unit.branch2(x[:, 4:]))


@pytest.mark.parametrize("name", ["shufflenet_v1", "shufflenet_v2_x0_5"])
def test_small_stem_leaves_4x4_maps_of_32x32_images(name):
    layers = layers_of(build(name, CIFAR, stem="small"), 32)
    assert layers["stage2.0" + (".reduce.0" if "v1" in name else ".branch2.0")].in_shape == (24, 32, 32)
    assert layers["avgpool"].in_shape[1:] == (4, 4)
