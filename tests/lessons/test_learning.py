"""Regression, activations, losses and optimizers: the notes' numbers, closed forms, and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cnnlab.lessons import (
    activations,
    adam,
    batch_norm,
    best_epoch,
    cross_entropy,
    losses,
    momentum,
    normalize,
    optimizers,
    problems,
    regression,
    regression_linear,
    stacked_linear,
)

few = st.integers(1, 5)
exact = settings(max_examples=25, deadline=None)


# --- Regression -----------------------------------------------------------------------------------


def test_the_notes_points():
    assert regression.X.tolist() == pytest.approx(
        [
            3.3,
            4.4,
            5.5,
            6.71,
            6.93,
            4.168,
            9.779,
            6.182,
            7.59,
            2.167,
            7.042,
            10.791,
            5.313,
            7.997,
            5.654,
            9.27,
            3.1,
        ]
    )
    assert regression.Y.tolist() == pytest.approx(
        [
            1.7,
            2.76,
            2.09,
            3.19,
            1.694,
            1.573,
            3.366,
            2.596,
            2.53,
            1.221,
            2.827,
            3.465,
            1.65,
            2.904,
            2.42,
            2.94,
            1.3,
        ]
    )


def test_least_squares_is_numpy_s():
    slope, intercept, loss = regression.least_squares(regression.X, regression.Y)
    assert [slope, intercept] == pytest.approx(np.polyfit(regression.X, regression.Y, 1), rel=1e-5)
    assert loss == pytest.approx(0.15386, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_more_epochs_never_raise_the_error(seed):
    values = regression.compute(epochs=5000, seed=seed)
    history = values["losses"]
    assert all(after <= before + 1e-6 for before, after in zip(history, history[1:], strict=False))
    assert [values["w"], values["b"]] == pytest.approx(values["best"][:2], abs=5e-3)
    assert len(regression.compute()["losses"]) == 100


def test_regression_with_a_layer_uses_fifteen_points_and_falls():
    values = regression_linear.compute()
    assert len(values["x"]) == 15
    assert not {5.654, 9.27} & set(values["x"].tolist())
    assert len(values["losses"]) == 60
    assert values["best"][2] < values["losses"][-1] < 0.2 < values["losses"][0]


def test_stacked_linear_layers_are_one():
    values = stacked_linear.compute()
    assert values["six"] == 6
    torch.testing.assert_close(values["stacked"], values["merged"])
    errors = values["midpoint_errors"]
    assert errors["two linear layers"] < 1e-6 < 1e-2 < errors["with a ReLU between"]


# --- Activations and losses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (activations.sigmoid, torch.sigmoid),
        (activations.tanh, torch.tanh),
        (activations.relu, F.relu),
        (activations.leaky_relu, F.leaky_relu),
        (activations.prelu, lambda x: F.prelu(x, torch.tensor(0.25).double())),
        (activations.rrelu, lambda x: F.rrelu(x, training=False)),
    ],
)
def test_activations_are_torch_s_with_their_slopes(ours, theirs):
    x = torch.linspace(-6, 6, 97, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    (slope,) = torch.autograd.grad(ours(x).sum(), x)
    (expected,) = torch.autograd.grad(theirs(x).sum(), x)
    torch.testing.assert_close(slope, expected)


def test_slopes_that_the_page_names():
    values = activations.compute(x=(0.0, 4.0, -4.0))
    assert values["slopes"]["sigmoid"][0] == 0.25
    assert values["slopes"]["tanh"][0] == 1
    assert values["slopes"]["relu"].tolist() == [0, 1, 0]
    assert 0.25**10 < 1e-6


@exact
@given(few, few)
def test_losses_are_torch_s(n, k):
    generator = torch.Generator().manual_seed(10 * n + k)
    p = torch.rand(n, k, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    t = torch.randint(0, 2, (n, k), generator=generator).double()
    p.requires_grad_()
    for ours, theirs in (
        (losses.l1, F.l1_loss),
        (losses.mse, F.mse_loss),
        (losses.binary_cross_entropy, F.binary_cross_entropy),
    ):
        torch.testing.assert_close(ours(p, t), theirs(p, t))
        torch.testing.assert_close(torch.autograd.grad(ours(p, t), p), torch.autograd.grad(theirs(p, t), p))


def test_the_median_suits_l1_and_the_mean_suits_mse():
    (_, median, *at_median), (_, mean, *at_mean) = losses.compute()["rows"]
    assert (median, mean) == (3, 22)
    assert at_median[0] < at_mean[0] and at_mean[1] < at_median[1]
    assert losses.compute()["costs"].tolist()[3:] == pytest.approx([math.log(10), math.log(100)], rel=1e-5)


@exact
@given(few, st.integers(2, 6), st.lists(few, max_size=2), st.booleans())
def test_cross_entropy_is_torch_s_with_weights_and_for_pixels(n, classes, pixels, weighted):
    generator = torch.Generator().manual_seed(n + 10 * classes)
    z = 5 * torch.randn(n, classes, *pixels, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    y = torch.randint(0, classes, (n, *pixels), generator=generator)
    weight = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    ours, theirs = cross_entropy.cross_entropy(z, y, weight), F.cross_entropy(z, y, weight)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z))
    log_probabilities = cross_entropy.log_softmax(z)
    torch.testing.assert_close(log_probabilities, z.log_softmax(dim=1))
    torch.testing.assert_close(
        cross_entropy.nll(log_probabilities, y, weight), F.nll_loss(log_probabilities, y, weight)
    )


def test_cross_entropy_of_large_logits_does_not_overflow():
    assert cross_entropy.cross_entropy(torch.tensor([[1000.0, 0.0]]), torch.tensor([1])) == 1000


def test_a_second_backward_pass_doubles_the_gradient():
    values = cross_entropy.compute()
    assert torch.equal(values["gradient_twice"], 2 * values["gradient"])
    torch.testing.assert_close(values["gradient"], values["probabilities"] - torch.tensor([[1.0, 0.0, 0.0]]))
    assert values["guess"] == pytest.approx(math.log(10))
    assert values["weighted"] > values["batch"] == pytest.approx(values["per_pixel"])


def test_three_kinds_of_problem_are_learned():
    values = problems.compute()
    assert all(history[-1] < 0.1 * history[0] for history in values["losses"].values())
    assert values["error"] < 0.03
    assert values["binary_accuracy"] > 0.95 and values["accuracy"] > 0.95
    torch.testing.assert_close(values["probabilities"].sum(dim=1), torch.ones(256))
    assert values["probabilities"].shape == (256, 4)


# --- Optimizers -----------------------------------------------------------------------------------


def randn(rows, columns):
    """A matrix and a vector, the same for the same sizes."""
    generator = torch.Generator().manual_seed(10 * rows + columns)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return [matrix, matrix[0].cos()]


def follow(make_optimizer, start, steps=12):
    """Parameters after some steps on one bumpy function."""
    params = [p.clone().requires_grad_() for p in start]
    optimizer = make_optimizer(params)
    for _ in range(steps):
        for p in params:
            p.grad = None
        sum((p.sin() + p.square() / 3).sum() for p in params).backward()
        optimizer.step()
    return [p.detach() for p in params]


@exact
@given(few, few, st.floats(0.001, 0.3), st.floats(0, 0.99), st.floats(0, 0.1))
def test_own_sgd_is_torch_s(rows, columns, lr, beta, decay):
    start = randn(rows, columns)
    ours = follow(lambda p: momentum.SGD(p, lr, beta, decay), start)
    theirs = follow(lambda p: torch.optim.SGD(p, lr=lr, momentum=beta, weight_decay=decay), start)
    torch.testing.assert_close(ours, theirs)


@exact
@given(few, few, st.floats(0.001, 0.3), st.floats(0, 0.99), st.floats(0.5, 0.999))
def test_own_adam_is_torch_s(rows, columns, lr, beta1, beta2):
    start = randn(rows, columns)
    ours = follow(lambda p: adam.Adam(p, lr, beta1, beta2), start)
    theirs = follow(lambda p: torch.optim.Adam(p, lr=lr, betas=(beta1, beta2)), start)
    torch.testing.assert_close(ours, theirs)


def test_momentum_is_faster_in_the_valley_and_too_large_a_step_climbs_out():
    values = momentum.compute()
    plain, faster = (momentum.valley(path[-1]).item() for path in values.values())
    assert faster < plain / 1000
    assert (
        momentum.valley(momentum.compute(lr=0.081)["plain"][-1])
        > momentum.valley(momentum.compute(lr=0.081)["plain"][0]) / 25
    )  # y alone starts with half of 25, x shrinks to nothing
    y = momentum.compute(lr=0.081)["plain"][:, 1].abs()
    assert y[-1] > y[0]


def test_adam_s_first_step_is_lr_in_each_coordinate():
    values = adam.compute()
    assert values["gradients"][0].tolist() == [5, 25]
    torch.testing.assert_close(values["path"][1] - values["path"][0], torch.tensor([-0.1, -0.1]))


def test_every_optimizer_of_the_notes_finds_the_line():
    values = optimizers.compute()
    assert set(values["losses"]) == {
        "Adadelta", "Adagrad", "Adam", "SparseAdam", "Adamax", "ASGD", "LBFGS", "RMSprop", "Rprop", "SGD",
    }  # fmt: skip
    for name, history in values["losses"].items():
        assert len(history) == 101
        assert history[0] == pytest.approx((regression.Y**2).mean().item())
        assert history[-1] - values["least"] < 0.05, name
    after_one = {name: history[1] for name, history in values["losses"].items()}
    assert min(after_one, key=after_one.get) == "LBFGS"
    assert values["losses"]["SparseAdam"] == pytest.approx(values["losses"]["Adam"], rel=1e-4)


# --- Training and testing -------------------------------------------------------------------------


def test_normalized_channels_have_mean_0_and_std_1():
    values = normalize.compute()
    torch.testing.assert_close(values["new_mean"], torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(values["new_std"], torch.ones(3))
    images = values["images"]
    torch.testing.assert_close(values["mean"], torch.stack([images[:, c].mean() for c in range(3)]))
    torch.testing.assert_close(values["std"], torch.stack([images[:, c].std(correction=0) for c in range(3)]))
    assert (values["average_of_stds"] < values["std"]).all()


def test_a_look_in_training_mode_moves_the_running_averages():
    values = batch_norm.compute()
    (_, *new), (_, *trained), (_, *evaluated) = values["steps"]
    assert new == [0, 1]
    assert trained == pytest.approx([0.1 * values["batch_mean"], 0.9 + 0.1 * values["batch_variance"]], rel=1e-5)
    assert evaluated == trained
    torch.testing.assert_close(values["own"], values["theirs"])


def test_the_best_epoch_on_the_test_set_promises_too_much():
    values = best_epoch.compute()
    gain = values["best_on_test"].mean().item() - 0.8
    # The largest of twenty normal numbers lies 1.867 standard deviations above their mean.
    assert gain == pytest.approx(1.867 * values["standard_error"], rel=0.05)
    assert values["chosen_on_valid"].mean().item() == pytest.approx(0.8, abs=0.002)
