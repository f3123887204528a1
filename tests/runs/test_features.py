"""Kernels and feature maps of a run, as pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from torch import nn

from cnnlab.cli import main
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.features import choose_image, draw_kernels, feature_maps, spread
from cnnlab.runs.start import start
from cnnlab.runs.trained import load_trained
from tests.conftest import small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("run"), "epochs=1"), [])


def test_both_pictures_are_drawn_and_named(run, capsys):
    assert main(["inspect", str(run.path), "--plot"]) == 0
    assert capsys.readouterr().out.split() == [str(run.kernels), str(run.feature_maps)]
    for path in (run.kernels, run.feature_maps):
        assert imread(path).ndim == 3
    assert {"feature_maps.png", "kernels.png"} <= {path.name for path in run.kernels.parent.iterdir()}


def test_another_image_gives_other_maps_and_the_same_kernels(run, tmp_path):
    main(["inspect", str(run.path), "--plot"])
    kernels, maps = run.kernels.read_bytes(), run.feature_maps.read_bytes()
    Image.fromarray(np.eye(40, 30, dtype=np.uint8) * 255).convert("RGB").save(tmp_path / "line.png")
    assert main(["inspect", str(run.path), "--plot", "--image", str(tmp_path / "line.png")]) == 0
    assert run.kernels.read_bytes() == kernels
    assert run.feature_maps.read_bytes() != maps


def test_a_file_that_is_no_picture_exits_3(run, tmp_path, capsys):
    (tmp_path / "odd.png").write_text("odd")
    assert main(["inspect", str(run.path), "--plot", "--image", str(tmp_path / "odd.png")]) == 3
    assert "odd.png" in capsys.readouterr().err


def test_the_image_is_prepared_as_for_training(run):
    trained = load_trained(run)
    test = trained.read_parts()["test"]
    pixels, images = choose_image(trained, None)
    expected, _ = test.batch(0, 0)
    assert torch.equal(images, expected[:1])
    assert torch.equal(pixels, test.images.store.tensor[test.indices[0]])


def test_maps_are_the_outputs_of_the_convolutions():
    first, second = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)
    network = nn.Sequential(first, nn.ReLU(inplace=True), second)
    images = torch.randn(1, 1, 8, 8)
    maps = feature_maps(network, [("0", first), ("2", second)], images)
    torch.testing.assert_close(maps["0"], first(images)[0])
    torch.testing.assert_close(maps["2"], network(images)[0])
    assert not first._forward_hooks


def test_layers_are_spread_from_the_first_to_the_last():
    assert spread(list(range(4)), 6) == [0, 1, 2, 3]
    assert spread(list(range(53)), 6) == [0, 10, 21, 31, 42, 52]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_kernels_of_any_number_of_channels(tmp_path, channels):
    run = RunDirectory(tmp_path)
    draw_kernels(run, torch.randn(20, channels, 5, 5))
    colours = imread(run.kernels)[..., :3]
    is_grey = np.allclose(colours[..., 0], colours[..., 1]) and np.allclose(colours[..., 0], colours[..., 2])
    assert is_grey == (channels != 3)


def test_gradcam_against_a_reference_made_by_hand():
    """Equations 1 and 2 of the paper, the gradient by differences."""
    from cnnlab.runs.features import compute_gradcam

    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1)
    tail = nn.Sequential(nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)).double()
    network = nn.Sequential(conv.double(), *tail)
    for parameter in network.parameters():
        parameter.requires_grad_(False)  # as in a frozen network
    image = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    maps = conv(image)
    gradient = torch.zeros_like(maps)
    for place in range(maps.numel()):
        step = torch.zeros(maps.numel(), dtype=torch.float64)
        step[place] = 1e-6
        up, down = (tail((maps + sign * step.view_as(maps)).clone())[0, 2] for sign in (1, -1))
        gradient.view(-1)[place] = (up - down) / 2e-6
    weighted = sum(gradient[0, k].mean() * maps[0, k] for k in range(3)).clamp(min=0)
    expected = (weighted / weighted.max()).float()
    torch.testing.assert_close(compute_gradcam(network, conv, image, 2), expected, rtol=1e-4, atol=1e-5)


def test_gradcam_of_one_logit_tells_the_first_class_by_its_negative():
    from cnnlab.runs.features import compute_gradcam

    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(36, 1))
    image = torch.randn(1, 1, 5, 5)
    second = compute_gradcam(network, network[0], image, 1)
    with torch.no_grad():
        network[2].weight.neg_()
    torch.testing.assert_close(compute_gradcam(network, network[0], image, 0), second)
