"""Winograd's filtering is the convolution: outputs and gradients of all shapes, and where it is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlab import winograd
from cnnlab.winograd import (
    TILES,
    Call,
    WinogradConvolutions,
    convolve,
    derive_transforms,
    expect_gain,
    may_gain,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    tensor = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return tensor.contiguous(memory_format=torch.channels_last)


def run(function, images, weight, gradient, dtype=torch.float32):
    """Outputs and both gradients, of copies in a type."""
    images, weight = (tensor.detach().to(dtype).requires_grad_() for tensor in (images, weight))
    outputs = function(images, weight)
    return outputs, *torch.autograd.grad(outputs, (images, weight), gradient.to(dtype))


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("size", TILES)
def test_the_transforms_filter_a_line_with_as_few_products_as_can_be(size):
    inputs, weights, outputs = derive_transforms(size)
    assert inputs.shape == (size + 2, size + 2) and weights.shape == (size + 2, 3) and outputs.shape == (size, size + 2)
    line, kernel = np.random.default_rng(0).normal(size=size + 2), np.array([0.5, -1.0, 2.0])
    found = outputs @ ((weights @ kernel) * (inputs @ line))
    np.testing.assert_allclose(found, np.correlate(line, kernel, "valid"), rtol=1e-9, atol=1e-9)


def test_the_transforms_of_two_outputs_are_those_of_the_paper():
    """Equation 5 of arXiv:1509.09308, in which the last product has its sign in the third matrix."""
    inputs, weights, outputs = derive_transforms(2)
    signs = np.array([-1, 1, 1, 1])  # of the rows of two matrices, which cancel
    np.testing.assert_allclose(signs[:, None] * inputs, [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
    half = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(signs[:, None] * weights, half)
    np.testing.assert_allclose(outputs, [[1, 1, 1, 0], [0, 1, -1, 1]])


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("padding", [(1, 1), (0, 2)])
def test_outputs_and_gradients_are_those_of_the_convolution(monkeypatch, tile, padding):
    """For whole tiles and cut ones, sides that differ, parts of a batch; in float64 as the truth."""
    monkeypatch.setattr(winograd, "TILES", (tile, 3))
    monkeypatch.setattr(winograd, "MAX_SCRATCH", 200_000)
    winograd._choose.cache_clear()
    images, weight = draw(7, 5, 11, 8), draw(6, 5, 3, 3, seed=1)
    gradient = draw(7, 6, 9 + 2 * padding[0], 6 + 2 * padding[1], seed=2)
    expected = run(lambda x, w: F.conv2d(x, w, padding=padding), images, weight, gradient, torch.float64)
    found = run(lambda x, w: convolve(x, w, padding=padding), images, weight, gradient)
    winograd._choose.cache_clear()
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and error(one, other) < 2e-4
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert found[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("size", "most"), [(4, 5e-6), (6, 1e-5), (7, 1e-4), (8, 5e-6)])
def test_what_is_lost_to_rounding(size, most):
    """Products in tf32 lose 5e-4 so, in bf16 4e-3."""
    images, weight, gradient = draw(4, 128, size, size), draw(128, 128, 3, 3, seed=1), draw(4, 128, size, size, seed=2)
    expected = run(lambda x, w: F.conv2d(x, w, padding=1), images, weight, gradient, torch.float64)
    for one, other in zip(run(convolve, images, weight, gradient), expected, strict=True):
        assert error(one, other) < most


def test_the_same_bits_each_time_whatever_was_computed_before():
    images, weight, gradient = draw(9, 64, 7, 7), draw(64, 64, 3, 3, seed=1), draw(9, 64, 7, 7, seed=2)
    first = run(convolve, images, weight, gradient)
    run(convolve, 1e6 * draw(5, 32, 13, 13), draw(96, 32, 3, 3), draw(5, 96, 13, 13))
    assert all(
        torch.equal(one, other) for one, other in zip(run(convolve, images, weight, gradient), first, strict=True)
    )


def test_a_bias_and_what_does_not_learn():
    images, weight, bias = draw(3, 64, 8, 8), draw(64, 64, 3, 3, seed=1), torch.randn(64).requires_grad_()
    outputs = convolve(images, weight, bias)
    assert error(outputs, F.conv2d(images, weight, bias, padding=1)) < 1e-5
    outputs.sum().backward()
    assert torch.allclose(bias.grad, torch.full((64,), 3.0 * 64))
    weight.requires_grad_()
    convolve(images, weight).sum().backward()  # of the first layer nobody wants the images' gradient
    assert weight.grad is not None and images.grad is None


def test_training_goes_on_after_predicting():
    """Memory that is made in inference mode could not be written to outside."""
    images, weight = draw(3, 80, 8, 8), draw(80, 80, 3, 3, seed=1).requires_grad_()
    winograd._scratch.__dict__.clear()
    winograd.make_transforms.cache_clear()
    with torch.inference_mode():
        expected = convolve(images, weight)
    outputs = convolve(images, weight)
    outputs.sum().backward()
    assert torch.equal(outputs, expected) and weight.grad is not None


def test_inside_the_mode_those_that_win_are_computed_so():
    layer, images = nn.Conv2d(128, 128, 3, padding=1), draw(32, 128, 8, 8)
    direct = layer(images)
    with WinogradConvolutions():
        found = layer(images)
    assert torch.equal(found, convolve(images, layer.weight, layer.bias)) and not torch.equal(found, direct)
    assert torch.allclose(found, direct, atol=1e-4)
    assert torch.equal(layer(images), direct)


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), 128),
        (nn.Conv2d(128, 128, 3, dilation=2, padding=2), 128),
        (nn.Conv2d(128, 128, 3, groups=4, padding=1), 128),
        (nn.Conv2d(128, 128, 3, padding="same"), 128),
        (nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect").double(), 128),
        (nn.Conv2d(128, 128, 5, padding=2), 128),
        (nn.Conv2d(128, 128, 1), 128),
        (nn.Conv2d(16, 16, 3, padding=1), 16),
    ],
)  # fmt: skip
def test_inside_the_mode_the_others_stay_as_they_are(layer, channels):
    images = draw(32, channels, 8, 8).to(layer.weight.dtype)
    with WinogradConvolutions():
        found = layer(images)
    assert torch.equal(found, layer(images))


def test_half_precision_other_layouts_and_empty_batches_stay_as_they_are():
    layer, images = nn.Conv2d(128, 128, 3, padding=1), draw(32, 128, 8, 8)
    assert Call(images, layer.weight, padding=1).is_faster()
    assert not Call(images[:1], layer.weight, padding=1).is_faster()
    assert not Call(images.contiguous(), layer.weight, padding=1).is_faster()
    assert not Call(images[:0], layer.weight, padding=1).is_faster()
    assert not Call(draw(32, 128, 2, 2), layer.weight).is_faster()  # no outputs: torch tells what is wrong
    with torch.autocast("cpu", torch.bfloat16):
        assert not Call(images, layer.weight, padding=1).is_faster()
    with WinogradConvolutions(), pytest.raises(RuntimeError, match="Kernel size"):
        F.conv2d(draw(32, 128, 2, 2), layer.weight)


def test_where_it_is_expected_to_win():
    """By the products: of 36 where 144 were needed no more than four times, less what moving tiles takes."""
    wide, narrow = torch.empty(512, 512, 3, 3), torch.empty(32, 32, 3, 3)
    assert 2.5 < expect_gain(wide, 1000, 4, 4) < 4
    assert expect_gain(wide, 8, 4, 4) < 1  # where transforming the weights takes the time
    assert expect_gain(narrow, 1000, 32, 32) < 1
    assert may_gain(nn.Sequential(nn.ReLU(), nn.Conv2d(256, 256, 3)))
    assert not may_gain(nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(256, 256, 1)))
