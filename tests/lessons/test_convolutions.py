"""Convolution and pooling: the notes' numbers, and our loops against torch's routines, gradients included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cnnlab.lessons import (
    bottleneck,
    channels,
    conv,
    conv2d,
    cross_correlation,
    edges,
    gpu,
    inception,
    learn_kernel,
    lenet,
    max_pool,
    one_by_one,
    padding,
    pooling,
    residual,
    shapes,
    stride,
    vanishing,
    vertical_edge,
)

few = st.integers(1, 4)
exact = settings(max_examples=25, deadline=None)


def randn(*sizes: int) -> Tensor:
    """Double precision, so that a different order of additions stays below the tolerance."""
    generator = torch.Generator().manual_seed(sum(sizes))
    return torch.randn(*sizes, generator=generator, dtype=torch.float64).requires_grad_()


def assert_same(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    """Equal values, and equal gradients of a weighted sum with respect to every input."""
    torch.testing.assert_close(ours, theirs)
    weights = randn(*ours.shape).detach()
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


# --- The notes' numbers ---------------------------------------------------------------------------


def test_conv_shapes():
    values = conv.compute()
    assert values["input"] == (1, 5, 100, 100)
    assert values["weight"] == (10, 5, 3, 3)
    assert values["output"] == (1, 10, 98, 98)
    assert values["parameters"] == 10 * 5 * 9 + 10


def test_padding():
    assert padding.compute()["output"].tolist() == [
        [91, 168, 224, 215, 127],
        [114, 211, 295, 262, 149],
        [192, 259, 282, 214, 122],
        [194, 251, 253, 169, 86],
        [96, 112, 110, 68, 31],
    ]
    assert padding.compute(padding=0)["output"].tolist() == [
        [211, 295, 262],
        [259, 282, 214],
        [251, 253, 169],
    ]


def test_stride_keeps_every_second_row_and_column():
    values = stride.compute()
    assert values["output"].tolist() == [[91, 224, 127], [192, 282, 122], [96, 110, 31]]
    assert torch.equal(values["output"], values["every"][::2, ::2])


def test_max_pool():
    values = max_pool.compute()
    assert values["maximum"].tolist() == [[4, 8], [9, 8]]
    assert values["average"].tolist() == [[3.25, 6.25], [5.75, 6.25]]
    assert values["gradient"].sum() == 4
    assert values["gradient"].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_cross_correlation():
    values = cross_correlation.compute()
    assert values["output"].tolist() == [[19, 25], [37, 43]]
    assert values["turned"].tolist() == [[5, 11], [23, 29]]


def test_edges():
    values = edges.compute()
    assert values["edges"].tolist() == [[0, 1, 0, -1, 0]] * 6
    assert values["turned image"].abs().max() == 0
    assert torch.equal(values["turned both"], values["edges"].T)


def test_vertical_edge():
    values = vertical_edge.compute()
    assert values["edge"].tolist() == [[0, 30, 30, 0]] * 4
    assert vertical_edge.compute(bright=0.0, dark=10.0)["edge"].tolist() == [[0, -30, -30, 0]] * 4


@pytest.mark.parametrize("seed", range(5))
def test_learn_kernel_comes_near_its_goal(seed):
    values = learn_kernel.compute(seed=seed)
    losses = values["losses"]
    assert len(losses) == 10
    assert all(after < before for before, after in zip(losses, losses[1:], strict=False))
    torch.testing.assert_close(values["kernels"][-1], torch.tensor([1.0, -1.0]), atol=0.1, rtol=0)


def test_learn_kernel_runs_away_above_two_over_the_curvature():
    """The curvature is the largest eigenvalue of the squared error's second derivative: 60."""
    image = torch.ones(6, 6)
    image[:, 2:4] = 0
    windows = torch.stack([image[:, :-1].flatten(), image[:, 1:].flatten()])
    assert torch.linalg.eigvalsh(2 * windows @ windows.T).tolist() == pytest.approx([12, 60])
    below, above = (learn_kernel.compute(lr=lr, steps=200)["losses"] for lr in (0.033, 0.034))
    assert below[-1] < 1e-2 < below[0] < above[-1]


def test_padding_and_stride_on_an_8_by_8_image():
    rows = shapes.compute()["rows"]
    assert [shape for _, _, _, shape, _ in rows] == [(8, 8), (8, 8), (4, 4), (2, 2)]
    assert all(shape == by_rule for _, _, _, shape, by_rule in rows)


def test_channels_are_summed_and_stacked():
    values = channels.compute()
    assert values["output"].tolist() == [
        [[56, 72], [104, 120]],
        [[76, 100], [148, 172]],
        [[96, 128], [192, 224]],
    ]
    assert torch.equal(values["output"][0], values["apart"].sum(dim=0))
    assert torch.equal(values["output"], values["batched"])


def test_pooling_variants():
    values = pooling.compute()
    assert values["usual"].tolist() == [[[10]], [[11]]]
    assert values["overlapping"].tolist() == [[[5, 7], [13, 15]], [[6, 8], [14, 16]]]
    assert values["chosen"][0].tolist() == [[5, 6, 7, 7], [13, 14, 15, 15]]
    assert pooling.compute(stride=(2, 3))["chosen"][0].tolist() == [[5, 7], [13, 15]]
    assert pooling.compute(mode="average")["usual"].tolist() == [[[5]], [[6]]]


def test_bottleneck_counts_what_torch_counts():
    values = bottleneck.compute()
    assert values["direct"] == 120_422_400
    assert values["through"] == 12_443_648
    with FlopCounterMode(display=False) as counter:
        F.conv2d(torch.zeros(1, 192, 28, 28), torch.zeros(32, 192, 5, 5), padding=2)
    assert counter.get_total_flops() == 2 * values["direct"]  # a multiplication and an addition each
    with FlopCounterMode(display=False) as counter:
        reduced = F.conv2d(torch.zeros(1, 192, 28, 28), torch.zeros(16, 192, 1, 1))
        F.conv2d(reduced, torch.zeros(32, 16, 5, 5), padding=2)
    assert counter.get_total_flops() == 2 * values["through"]


def test_inception_block_has_88_channels():
    values = inception.compute()
    assert [shape[1] for shape in values["branches"].values()] == [16, 24, 24, 24]
    assert values["output"] == (1, 88, 12, 12)
    assert inception.compute(in_channels=20, size=4)["output"] == (1, 88, 4, 4)
    assert 88 * 4 * 4 == 1408


def test_512_and_1568():
    values = residual.compute()
    assert values["padding 0"][-1] == ("flatten", (512,))
    assert values["padding 2"][-1] == ("flatten", (1568,))
    sizes = [shape[-1] for name, shape in values["padding 0"] if "block" not in name]
    assert sizes == [28, 24, 12, 8, 4, 512]


@pytest.mark.parametrize("seed", range(3))
def test_gradients_vanish_without_the_shortcut_only(seed):
    values = vanishing.compute(seed=seed)
    assert values["plain"][0] < 1e-10 * values["plain"][-1]
    assert values["residual"][0] > 1e-2 * values["residual"][-1]


def test_lenet_shapes_and_parameters():
    values = lenet.compute()
    shown = [shape[1:] for name, shape, _ in values["rows"] if name not in ("Sigmoid", "image")]
    assert shown == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,),
    ]  # fmt: skip
    assert values["parameters"] == 61_706
    assert sum(count for name, _, count in values["rows"] if name == "Conv2d") == 2_572


def test_images_left_behind_are_refused():
    values = gpu.compute(device="cpu")
    assert values["difference"] == 0
    assert (values["weight_moved"], values["images_stayed"]) == ("meta", "cpu")
    assert "device" in values["refusal"]


# --- Against torch --------------------------------------------------------------------------------


@exact
@given(few, few, few, few)
def test_corr2d_is_torch_s(extra_rows, extra_columns, rows, columns):
    image, kernel = randn(rows + extra_rows, columns + extra_columns), randn(rows, columns)
    theirs = F.conv2d(image[None, None], kernel[None, None])[0, 0]
    assert_same(cross_correlation.corr2d(image, kernel), theirs, [image, kernel])


@exact
@given(few, few)
def test_own_layer_is_torch_s(rows, columns):
    own = conv2d.Conv2D(rows, columns).double()
    theirs = nn.Conv2d(1, 1, (rows, columns)).double()
    theirs.weight.data = own.weight.data[None, None]
    theirs.bias.data = own.bias.data
    image = randn(6, 6)
    ours, expected = own(image), theirs(image[None, None])[0, 0]
    torch.testing.assert_close(ours, expected)
    ours.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(own.weight.grad, theirs.weight.grad[0, 0])
    torch.testing.assert_close(own.bias.grad, theirs.bias.grad)


@exact
@given(few, few, few, few, st.integers(0, 2), st.integers(1, 3))
def test_conv2d_with_channels_padding_and_stride_is_torch_s(n, c_in, c_out, kernel, padding, stride):
    images, weight, bias = randn(n, c_in, 7, 6), randn(c_out, c_in, kernel, kernel), randn(c_out)
    ours = channels.conv2d(images, weight, bias, padding, stride)
    theirs = F.conv2d(images, weight, bias, padding=padding, stride=stride)
    assert_same(ours, theirs, [images, weight, bias])


@exact
@given(few, few, few)
def test_multi_channel_correlation_is_torch_s(c_in, c_out, kernel):
    image, kernels = randn(c_in, 5, 6), randn(c_out, c_in, kernel, kernel)
    assert_same(channels.corr2d_multi_in_out(image, kernels), F.conv2d(image[None], kernels)[0], [image, kernels])


@exact
@given(few, few, few)
def test_one_by_one_is_a_matrix_product(c_in, c_out, size):
    values = one_by_one.compute(in_channels=c_in, out_channels=c_out, size=size)
    torch.testing.assert_close(values["product"], values["convolution"])
    torch.testing.assert_close(values["product"], values["torch"])


@exact
@given(st.sampled_from(["max", "average"]), few, few, st.data())
def test_pooling_is_torch_s(mode, rows, columns, data):
    frame = (data.draw(st.integers(0, rows // 2)), data.draw(st.integers(0, columns // 2)))
    step = (data.draw(few), data.draw(few))
    images = randn(2, 3, 6, 7)
    theirs = F.max_pool2d if mode == "max" else F.avg_pool2d
    ours = pooling.pool2d(images, mode, (rows, columns), frame, step)
    assert_same(ours, theirs(images, (rows, columns), step, frame), [images])
    unstrided = pooling.pool2d(images, mode, (rows, columns), frame)
    torch.testing.assert_close(unstrided, theirs(images, (rows, columns), padding=frame))


@exact
@given(few, st.integers(1, 6), few)
def test_residual_block_by_hand(channels_, size, n):
    block = residual.ResidualBlock(channels_).double()
    x = randn(n, channels_, size, size)
    first = channels.conv2d(x, block.first.weight, block.first.bias, padding=1)
    change = channels.conv2d(first.clamp(min=0), block.second.weight, block.second.bias, padding=1)
    assert_same((x + change).clamp(min=0), block(x), [x, *block.parameters()])


@settings(max_examples=10, deadline=None)
@given(few, st.integers(1, 5))
def test_inception_block_by_hand(in_channels, size):
    block = inception.InceptionBlock(in_channels).double()
    x = randn(2, in_channels, size, size)

    def by_hand(layer: nn.Conv2d, x: Tensor) -> Tensor:
        return channels.conv2d(x, layer.weight, layer.bias, padding=layer.padding[0])

    five = by_hand(block.five[1], by_hand(block.five[0], x))
    three = by_hand(block.three[2], by_hand(block.three[1], by_hand(block.three[0], x)))
    pooled = pooling.pool2d(x, "average", (3, 3), padding=(1, 1), stride=(1, 1))
    ours = torch.cat([by_hand(block.one, x), five, three, by_hand(block.pooled, pooled)], dim=1)
    assert ours.shape[1] == 88
    assert_same(ours, block(x), [x, *block.parameters()])
