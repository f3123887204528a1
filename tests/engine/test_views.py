"""Test-time augmentation beside its views written out."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.cli import main
from cnnlab.engine.network import Network
from cnnlab.engine.views import average_outputs, make_views
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.start import start
from tests.conftest import small_config

IMAGES = torch.randn(5, 3, 8, 6, generator=torch.Generator().manual_seed(0))


def test_views_are_the_images_their_mirrors_and_both_moved_by_a_pixel():
    assert [view.shape for view in make_views(IMAGES, "flip_translate")] == [IMAGES.shape] * 6
    first, mirrored, up_left, _, down_right, last = make_views(IMAGES, "flip_translate")
    assert torch.equal(first, IMAGES) and torch.equal(mirrored, IMAGES.flip(3))
    assert torch.equal(up_left[:, :, 1:, 1:], IMAGES[:, :, :-1, :-1]) and torch.equal(
        up_left[:, :, 0], up_left[:, :, 2]
    )
    assert torch.equal(down_right[:, :, :-1, :-1], IMAGES[:, :, 1:, 1:]) and torch.equal(last, down_right.flip(3))


def test_outputs_are_the_mean_over_the_views():
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)), torch.device("cpu"))
    with torch.no_grad():
        padded = F.pad(IMAGES, (1, 1, 1, 1), "reflect")
        crops = [padded[:, :, top : top + 8, top : top + 6] for top in (0, 1, 2)]
        moved_up, still, moved_down = (network(crop) + network(crop.flip(3)) for crop in crops)
        expected = still / 4 + (moved_up + moved_down) / 8
        torch.testing.assert_close(average_outputs(network, IMAGES, "flip_translate"), expected)
        torch.testing.assert_close(average_outputs(network, IMAGES, "none"), network(IMAGES))


def test_a_run_its_evaluation_and_a_prediction_agree_on_the_test_images(tmp_path):
    run = start(small_config(tmp_path, "engine.tta=flip_translate", "steps=4"), [])
    test = run.read_json(run.summary)["test"]
    found = evaluate_run(str(run.path))
    assert {key: found[key] for key in test} == test
    assert evaluate_run(str(run.path), overrides=["engine.tta=none"])["loss"] != test["loss"]
    assert main(["predict", str(run.path), "--part", "test", "--tta", "flip_translate", "--average", "logits"]) == 0
    rows = [line.split(",") for line in run.predictions.with_name("predictions_test.csv").read_text().splitlines()[1:]]
    right = sum(row[1] == row[2] for row in rows)
    assert abs(right / len(rows) - test["accuracy"]) < 1e-9
