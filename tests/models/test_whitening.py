"""Weights that begin with the training images."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.models import DATA_INITS, INITS
from cnnlab.models.whitened_cnn import ConvolutionToPool, GlobalMaxPool
from cnnlab.models.whitening import find_whitening_filters, whitening
from cnnlab.runs.start import start
from tests.conftest import small_config


def smooth_images() -> torch.Tensor:
    """Neighbouring pixels resemble each other, as in photographs."""
    noise = torch.randn(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 3, 1, 1) + 0.1 * noise


def test_filters_make_patches_uncorrelated_and_of_unit_variance():
    images = smooth_images()
    filters = find_whitening_filters(images, (2, 2))
    outputs = F.conv2d(images, filters).transpose(0, 1).flatten(1)  # (12, positions)
    found = outputs @ outputs.T / outputs.shape[1]
    torch.testing.assert_close(found, torch.eye(12), atol=0.05, rtol=0)
    variances = 1 / filters.flatten(1).square().sum(1)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


@pytest.mark.parametrize(("width", "num_set"), [(24, 24), (30, 24), (9, 8)])
def test_directions_and_their_negatives_fill_the_first_convolution(width, num_set):
    model = nn.Sequential(nn.Conv2d(3, width, 2), nn.Conv2d(width, 3, 2))
    before = [p.detach().clone() for p in model.parameters()]
    whitening(model, smooth_images())
    weight = model[0].weight.detach()
    half = num_set // 2
    assert torch.equal(weight[:half], -weight[half:num_set])
    torch.testing.assert_close(weight[:half], find_whitening_filters(smooth_images(), (2, 2))[:half])
    assert torch.equal(weight[num_set:], before[0][num_set:]) and not model[0].bias.any()
    assert torch.equal(model[1].weight, before[2])


@pytest.mark.parametrize(("height", "width"), [(7, 7), (8, 7), (9, 6), (4, 4)])
def test_what_pooling_leaves_out_is_not_computed(height, width):
    layer, images = ConvolutionToPool(3, 5), torch.randn(2, 3, height, width)
    found, whole = layer(images), F.conv2d(images, layer.weight, padding=1)
    assert found.shape == (2, 5, height // 2 * 2, width // 2 * 2)
    torch.testing.assert_close(F.max_pool2d(found, 2), F.max_pool2d(whole, 2))


def test_a_network_without_such_a_convolution_is_refused():
    for model in (nn.Linear(3, 3), nn.Conv2d(1, 8, 3), nn.Conv2d(3, 6, 3, groups=3)):
        with pytest.raises(ConfigError, match="model.init_from_data: whitening was given"):
            whitening(model, smooth_images())


def test_a_run_begins_with_it_keeps_it_frozen_and_repeats(tmp_path):
    given = ["model=whitened_cnn", "model.widths=[4,4]", "model.init=dirac", "model.init_from_data=whitening"]
    config = small_config(tmp_path, *given, "model.freeze=[whiten.weight]", "model.batch_norm_momentum=0.4", "steps=3")
    experiment = build_experiment(config, assemble(config))
    weight = experiment.training.model.whiten.weight.detach().clone()
    assert {m.momentum for m in experiment.training.model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.4}
    trained = load_checkpoint(start(config, []).last)["model"]
    assert torch.equal(trained["whiten.weight"], weight) and trained["whiten.bias"].any()


def test_trained_weights_take_the_place_of_any_initialisation(tmp_path):
    assert list(DATA_INITS) == ["whitening"]
    given = ["model=whitened_cnn", "model.widths=[4,4]", "model.init=dirac", "model.init_from_data=whitening"]
    source = start(small_config(tmp_path / "source", *given, "steps=3"), [])
    trained = load_checkpoint(source.find_weights())["model"]
    config = small_config(tmp_path / "next", *given, f"model.weights={source.path}")
    begun = build_experiment(config, assemble(config)).training.model.state_dict()
    assert all(torch.equal(begun[key], value) for key, value in trained.items())


def test_dirac_convolutions_pass_their_inputs_on():
    conv = nn.Conv2d(3, 5, 3, padding=1)
    own = conv.weight.detach().clone()
    conv.apply(INITS["dirac"])
    images = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(conv(images)[:, :3], images)
    assert torch.equal(conv.weight[3:], own[3:])


def test_the_last_pooling_is_adaptive_max_pooling_and_so_is_its_gradient():
    """Of maps of any size, of which some hold their maximum twice."""
    for height, width in ((3, 3), (2, 5), (1, 1)):
        images = torch.randint(0, 4, (5, 7, height, width), generator=torch.Generator().manual_seed(0)).float()
        ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
        found, expected = GlobalMaxPool()(ours), torch.nn.AdaptiveMaxPool2d(1)(theirs)
        assert torch.equal(found, expected)
        weights = torch.arange(35.0).view_as(found)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        assert torch.equal(ours.grad, theirs.grad)
