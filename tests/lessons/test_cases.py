"""Cases: what is computed, and that stored figures agree with themselves and with what the pages say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnlab.lessons import (
    case_cats_dogs,
    case_cifar10,
    case_dog_breeds,
    case_fashion,
    case_line,
    case_mnist,
    fine_tuning,
)
from cnnlab.lessons.course import CHAPTERS, COURSE

CASES = CHAPTERS["Cases from start to end"]


@pytest.mark.parametrize("name", CASES)
def test_a_case_says_all_that_a_case_has_to(name):
    about = COURSE[name].about
    for lead in ("Look at:", "In the notes:", "Try next:", "The test set:"):
        assert about.count(f"\n\n{lead} ") == 1, lead


def test_the_line_on_fifteen_points_and_on_two():
    values = case_line.compute()
    kept = ~case_line.HELD_OUT
    x, y = case_line.X.numpy(), case_line.Y.numpy()
    assert int(kept.sum()) == 15 and sorted(x[~kept.numpy()].tolist()) == pytest.approx([5.654, 9.27])
    slope, intercept = np.polyfit(x[kept.numpy()], y[kept.numpy()], 1)
    assert values["best"] == pytest.approx((slope, intercept), rel=1e-4)
    on_two = np.mean((slope * x[~kept.numpy()] + intercept - y[~kept.numpy()]) ** 2)
    assert values["least"][1] == pytest.approx(on_two, rel=1e-3)
    assert all(losses[-1] < losses[0] for losses in values["train"].values())
    assert case_line.compute(lr=0.02, seeds=1)["train"][0][-1] < 1.2 * values["least"][0]
    assert case_line.compute(lr=0.03, seeds=1)["train"][0][-1] > 1


def test_mnist_as_measured_and_as_published():
    values = case_mnist.compute()
    assert values["notes_accuracy"] == [0.93, 0.96, 0.96, 0.97, 0.97, 0.98, 0.98, 0.98, 0.98, 0.98]
    assert values["notes_loss"][0] == pytest.approx((2.224153 + 0.954984 + 0.318726) / 3)
    assert all(len(curve) == 10 for curve in [*values["valid_accuracy"].values(), *values["train_loss"].values()])
    for curve in values["valid_accuracy"].values():
        assert 0.88 < curve[0] < 0.92 and 0.978 <= curve[-1] <= 0.983
    assert all(0.983 < accuracy < 0.986 for accuracy in values["test_accuracy"].values())
    assert values["standard_error"] == pytest.approx(0.0012, abs=1e-4)


def test_fashion_as_measured_and_as_published():
    values = case_fashion.compute()
    assert list(values["published"].values()) == [0.469, 0.823, 0.779]
    for name, curve in values["valid_accuracy"].items():
        assert len(curve) == len(values["train_loss"][name]) == 10
        assert abs(values["test_accuracy"][name] - max(curve)) < 0.01
    drops = [b < a for curve in values["valid_accuracy"].values() for a, b in zip(curve, curve[1:], strict=False)]
    assert any(drops)


def test_cifar10_s_figures():
    values = case_cifar10.compute()
    assert values["steps"] == math.ceil(45_000 / 256)
    assert values["minutes"]["resnet18_cifar"] == pytest.approx(13.9, abs=0.1)
    assert values["sorted_names"] == ["1.png", "10.png", "100.png", "2.png"]
    assert {len(curve) for curve in values["epochs"].values()} == {6}
    assert abs(values["test_accuracy"] - values["epochs"]["valid accuracy"][-1]) < 0.01


def test_dog_breeds_by_count():
    values = case_dog_breeds.compute()
    assert (values["train"], values["valid"]) == (9200, 1022)
    assert values["head"] == 512 * 256 + 256 + 256 * 120 + 120 == 162_168
    assert "162,168" in COURSE["fine_tuning"].ending and fine_tuning
    assert values["guess"] == pytest.approx(4.787, abs=1e-3)
    assert values["lr"] == pytest.approx([0.03] * 10 + [0.003] * 10)


def test_the_frozen_weights_are_torchvision_s():
    import torch
    from torchvision.models import resnet34

    with torch.device("meta"):
        net = resnet34()
    body = sum(p.numel() for name, p in net.named_parameters() if not name.startswith("fc."))
    assert case_dog_breeds.compute()["frozen"] == body


def test_cats_and_dogs_figures():
    values = case_cats_dogs.compute()
    assert values["best_epoch"] == 8
    assert {len(curve) for curve in values["epochs"].values()} == {10}
    assert values["guess"]["log loss"] == pytest.approx(0.693, abs=1e-3)
    assert values["test"]["log loss"] < values["guess"]["log loss"] and values["test"]["accuracy"] > 0.79
