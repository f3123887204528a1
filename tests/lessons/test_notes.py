"""What the lessons say about the notes: their bugs, their open questions, their homework."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from cnnlab.lessons import (
    augmentation,
    averages,
    combined_losses,
    dense_to_conv,
    densenet,
    fine_tuning,
    from_numpy,
    groups,
    in_place,
    init_blocks,
    one_hot,
    overwritten,
    pool_order,
    repeat,
    residual_variants,
    schedules,
    small_kernels,
)

few = st.integers(1, 4)
exact = settings(max_examples=20, deadline=None)


# --- Learning -------------------------------------------------------------------------------------


def test_from_numpy_shares_and_tensor_copies():
    values = from_numpy.compute()
    assert values["array"].tolist() == values["from_numpy"].tolist() == [-1, 2, 10]
    assert values["tensor"].tolist() == values["float"].tolist() == [1, 2, 3]
    assert values["dtypes"] == {"from_numpy": "torch.float64", "tensor": "torch.float64", "float": "torch.float32"}
    assert "not resizable" in values["refusal"]


def test_four_ways_to_take_a_step():
    values = in_place.compute(lr=0.1)
    assert "leaf Variable that requires grad" in values["refusal"]
    assert values["replaced"] == values["no_grad"] == values["data"] == pytest.approx(2.4)
    assert not values["replaced_is_leaf"] and values["same_memory"]
    assert values["slopes"]["data"] == "20, without a word"
    assert values["slopes"]["no_grad"].startswith("refused")


@pytest.mark.parametrize("seed", range(5))
def test_the_notes_cell_in_the_notes_order_does_not_converge(seed):
    """Replayed with numpy: Y is the edges of the image on its side, reshaped to (6, 5)."""
    x = np.ones((6, 6))
    x[:, 2:4] = 0
    y = (x.T[:-1] - x.T[1:]).reshape(6, 5)
    windows = np.stack([x[:, :-1].ravel(), x[:, 1:].ravel()], axis=1)
    best, (least,), *_ = np.linalg.lstsq(windows, y.ravel(), rcond=None)

    values = overwritten.compute(seed=seed, steps=100)
    right, wrong = values["losses"].values()
    assert right[-1] < 1e-6
    assert min(wrong) > 11.6 and wrong[-1] == pytest.approx(least, rel=1e-4)
    assert least == pytest.approx(35 / 3)
    kernel = values["kernels"]["Y as the notes have it by then"]
    assert kernel.tolist() == pytest.approx(best.tolist(), abs=1e-4)
    assert best.tolist() == pytest.approx([1 / 6, -1 / 6])
    assert overwritten.compute(seed=seed)["losses"]["Y as the notes have it by then"][-1] > 11.6


# --- From a line to a network ---------------------------------------------------------------------


def test_counts_from_fully_connected_to_convolution():
    values = dense_to_conv.compute()
    assert values["inputs"] == 64 * 64 * 3 == 12_288
    dense, local, shared = (count for _, count in values["counts"])
    with torch.device("meta"):
        assert values["hidden_layer"] == sum(p.numel() for p in nn.Linear(12_288, 1000).parameters())
        assert dense == sum(p.numel() for p in nn.Linear(12_288, 10 * 62 * 62).parameters())
        assert shared == sum(p.numel() for p in nn.Conv2d(3, 10, 3).parameters())
    assert local == 62 * 62 * shared
    assert values["difference"] < 1e-4
    assert (values["matrix"] != 0).sum(dim=1).tolist() == [9] * 9 and values["different"] == 9


@exact
@given(few, st.integers(4, 6))
def test_a_convolution_is_a_product_with_its_matrix(k, size):
    kernel = torch.randn(k, k, dtype=torch.float64)
    image = torch.randn(size, size, dtype=torch.float64)
    product = dense_to_conv.convolution_matrix(kernel.float(), size).double() @ image.flatten()
    expected = F.conv2d(image[None, None], kernel[None, None]).flatten()
    torch.testing.assert_close(product, expected, atol=1e-5, rtol=1e-5)


def test_an_index_and_a_one_hot_row_cost_the_same():
    values = one_hot.compute()
    assert values["rows"].tolist() == [[1, 0], [0, 1], [0, 1]]
    assert values["by_index"] == pytest.approx(values["by_row"]) == pytest.approx(values["by_hand"])
    assert values["by_smoothed"] == pytest.approx(values["smoothing_of_torch"])
    assert "floating point" in values["refusal"]


@pytest.mark.parametrize("seed", range(3))
def test_l1_makes_zeros_and_l2_does_not(seed):
    values = combined_losses.compute(seed=seed)
    assert values["zeros"]["none"] == values["zeros"]["L2"] == 0
    assert values["zeros"]["L1"] >= 5
    assert (values["weights"]["L1"][:3] != 0).all()
    torch.testing.assert_close(values["gradient"], values["sum_of_gradients"])
    assert "scalar" in values["refusal"]


def test_l2_s_weights_are_those_of_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 10, generator=generator)
    y = x @ torch.arange(10.0) + torch.randn(60, generator=generator)
    ours = combined_losses.fit(x, y, "L2", 0.2)
    expected = torch.linalg.solve(x.T @ x / 60 + 0.2 * torch.eye(10), x.T @ y / 60)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)


# --- Blocks ---------------------------------------------------------------------------------------


def test_starts_block_by_block_and_by_hand():
    values = init_blocks.compute(features=200, hidden=200)
    first, second = values["blockwise"]
    assert first.abs().max() <= (6 / 400) ** 0.5 and (second == 42).all()
    assert values["zero"] == pytest.approx(1 / 2, abs=0.01)
    assert values["above"] == pytest.approx(1 / 4, abs=0.01) == pytest.approx(values["below"], abs=0.02)
    sizes = values["drawn"][values["drawn"] != 0].abs()
    assert sizes.min() >= 5 and sizes.max() <= 10
    assert values["by_hand"][0, 0] == 42
    torch.testing.assert_close(values["by_hand"][1], values["same_weights_before"][1] + 1)


# --- Steps, training and testing ------------------------------------------------------------------


def lrs_of_torch(make_scheduler, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make_scheduler(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def test_schedules_are_torch_s():
    ours = schedules.compute()["factors"]
    assert ours["step"] == pytest.approx(lrs_of_torch(lambda o: lr_scheduler.StepLR(o, 100, 0.1), 200))
    assert ours["cosine"] == pytest.approx(lrs_of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 200), 200))
    assert ours["constant"] == [1.0] * 200
    one_cycle = ours["one cycle"]
    assert one_cycle[0] == pytest.approx(0.04) and max(one_cycle) == pytest.approx(1, abs=1e-3)
    assert one_cycle.index(max(one_cycle)) == 60 and one_cycle[-1] < 1e-3


def test_a_constant_rate_stays_at_its_floor_and_schedules_get_below():
    values = schedules.compute(epochs=100)
    late = values["losses"]["constant"][500:]
    assert sum(late) / len(late) == pytest.approx(values["floor"], rel=0.03)
    for name in ("step", "cosine", "one cycle"):
        assert values["losses"][name][-1] < values["floor"] / 5


def test_moved_images_are_crops_of_padded_ones():
    values = augmentation.compute()
    assert values["views_of_32"] == 162
    padded = F.pad(values["example"], (2, 2, 2, 2))
    for view in values["views"]:
        assert any(torch.equal(view, padded[i : i + 5, j : j + 5]) for i in range(5) for j in range(5))


@pytest.mark.parametrize("seed", range(3))
def test_moving_training_images_helps_where_signs_may_stand_anywhere(seed):
    (as_they_are, moved) = augmentation.compute(seed=seed)["accuracies"].values()
    assert as_they_are[0] == 1 and as_they_are[1] < 0.6 < 0.7 < moved[1]


def test_averages():
    values = averages.compute()
    assert values["right"] == pytest.approx(values["over images"])
    assert values["sizes"] == [256, 256, 256, 32]
    assert values["of means"] > values["right"] + 0.3
    assert values["notes"] == pytest.approx(values["right"] * 800 / 4)


def test_what_a_seed_does_not_fix():
    values = repeat.compute()
    assert values["here"] != values["there"] and values["sorted here"] == values["sorted there"]
    names = [f"{animal}.{number}.jpg" for animal in ("cat", "dog") for number in range(5)]
    shuffled = list(names)
    random.Random(0).shuffle(shuffled)
    assert values["here"] == sorted(shuffled[:3])
    assert values["dogs"] == 7
    assert 0 < abs(values["forward"] - values["backward"]) < 1e-11


# --- Networks -------------------------------------------------------------------------------------


def test_small_kernels_see_as_much_with_fewer_weights():
    values = small_kernels.compute(channels=8)
    assert [row[1:] for row in values["rows"]] == [
        [25 * 64, "5×5", 1],
        [18 * 64, "5×5", 2],
        [49 * 64, "7×7", 1],
        [27 * 64, "7×7", 3],
    ]
    assert values["difference"] < 1e-4


@exact
@given(few, few)
def test_two_kernels_in_a_row_are_one(a, b):
    """Against numpy's full convolution along a row."""
    first, second = torch.randn(a, dtype=torch.float64), torch.randn(b, dtype=torch.float64)
    square = [torch.zeros(3, 3, dtype=torch.float64) for _ in range(2)]
    square[0][0, : min(a, 3)], square[1][0, : min(b, 3)] = first[:3], second[:3]
    merged = small_kernels.merge(*square)
    expected = np.convolve(square[0][0].numpy(), square[1][0].numpy())
    assert merged[0].tolist() == pytest.approx(expected.tolist())


def test_the_order_of_pooling_and_activation_matters_for_means_only():
    values = pool_order.compute()
    differences = {(pooling, name): difference for pooling, name, difference in values["rows"]}
    assert all(differences["maximum", name] == 0 for name in ("relu", "sigmoid", "tanh"))
    assert all(differences["average", name] > 0.1 for name in ("relu", "sigmoid", "tanh"))
    assert values["pool_first"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert values["sigmoid_first"] == pytest.approx((1 / (1 + np.exp(2)) + 1 / (1 + np.exp(-4))) / 2)


@exact
@given(few, few, st.sampled_from([1, 3]))
def test_grouped_convolution_is_torch_s(n, groups_, kernel_size):
    images = torch.randn(n, 2 * groups_, 5, 5, dtype=torch.float64)
    weight = torch.randn(3 * groups_, 2, kernel_size, kernel_size, dtype=torch.float64)
    torch.testing.assert_close(groups.grouped(images, weight, groups_), F.conv2d(images, weight, groups=groups_))
    channels = torch.arange(2.0 * groups_).reshape(1, -1, 1, 1)
    assert (
        groups.shuffle(channels.flatten(), groups_).tolist() == nn.ChannelShuffle(groups_)(channels).flatten().tolist()
    )


def test_groups_shrink_weights_and_keep_channels_apart():
    values = groups.compute()
    ordinary, grouped, depthwise, separable = (count for _, count in values["weights"])
    assert (grouped, depthwise) == (ordinary / 4, ordinary / 8)
    assert separable / ordinary == pytest.approx(values["share"]) == pytest.approx(1 / 8 + 1 / 9)
    assert torch.equal(values["heard"], torch.block_diag(*[torch.ones(2, 2)] * 4))


def test_what_shortcuts_let_through():
    values = residual_variants.compute(depth=10)
    assert values["shortcuts"]["identity"] == 1
    assert values["shortcuts"]["constant scaling"] == pytest.approx(0.5**10)
    gate = torch.tensor(-6.0).sigmoid().item()
    assert values["shortcuts"]["exclusive gating"] == pytest.approx((1 - gate) ** 10, abs=0.02)
    assert values["orders"]["full preactivation"] == values["orders"]["ReLU-only preactivation"] == 1
    assert residual_variants.compute()["shortcuts"]["dropout"] == 0  # of a million numbers one is left


@pytest.mark.parametrize("order", residual_variants.ORDERS)
def test_a_unit_is_its_letters(order):
    """The original order by hand, and for each order the layers in their sequence."""
    unit = residual_variants.Unit(4, order=order).eval()
    before, branch, after, _ = residual_variants.ORDERS[order]
    kinds = {"Conv2d": "c", "BatchNorm2d": "b", "ReLU": "r"}
    letters = [[kinds[type(layer).__name__] for layer in part] for part in (unit.branch, unit.after)]
    assert letters == [[*before.split(), *branch.split()], after.split()]
    x = torch.randn(2, 4, 5, 5)
    expected = unit.after(x + unit.branch(x))
    torch.testing.assert_close(unit(x), expected)


def test_densenets_have_the_published_parameters():
    from torchvision.models import densenet121

    values = densenet.compute()
    with torch.device("meta"):
        theirs = sum(p.numel() for p in densenet121().parameters())
    assert values["parameters"]["DenseNet-121, k = 32"] == theirs == 7_978_856
    assert values["parameters"]["DenseNet-40, k = 12"] == 1_019_722
    assert values["widths"] == [16, 28, 40, 52, 64] and values["arrows"] == 10


def test_a_dense_block_keeps_what_came_in():
    block = densenet.DenseBlock(3, layers=2, growth=4, bottleneck=True).eval()
    x = torch.randn(2, 3, 6, 6)
    y = block(x)
    assert y.shape == (2, 11, 6, 6)
    torch.testing.assert_close(y[:, :3], x)
    first = block.layers[0](x)
    torch.testing.assert_close(y[:, 3:7], first)
    torch.testing.assert_close(y[:, 7:], block.layers[1](torch.cat([x, first], dim=1)))


def test_trained_features_beat_scratch_and_random_ones():
    values = fine_tuning.compute(seed=1)
    frozen, everything, scratch, random_ = (row[3] for row in values["rows"])
    assert frozen > scratch + 0.05 and everything > scratch and frozen > random_ + 0.1
    learning = [row[1] for row in values["rows"]]
    assert learning == [64 * 4 + 4, 20 * 64 + 64 + 64 * 4 + 4, 20 * 64 + 64 + 64 * 4 + 4, 64 * 4 + 4]
