"""Trained weights bring their normalisation; it stays with the run as numbers."""

from __future__ import annotations

import json
import shutil

import pytest
from torchvision import models

from cnnlab import distributed
from cnnlab.cli import main
from cnnlab.errors import ConfigError
from cnnlab.models.expected import find_expected
from cnnlab.runs.start import start
from tests.conftest import small_config


@pytest.fixture(autouse=True)
def _say_again(monkeypatch):
    monkeypatch.setattr(distributed, "_SAID", set())


@pytest.fixture
def pretrained(tmp_path):
    """A run that was normalised by numbers that no dataset has."""
    return start(small_config(tmp_path / "first", "dataset.normalize={mean: [0.3], std: [0.7]}", "epochs=1"), [])


def facts(run) -> list[float]:
    told = json.loads(run.dataset.read_text())
    return [told["mean"][0], told["std"][0]]


@pytest.mark.parametrize("normalize", ["null", "model"])
@pytest.mark.parametrize("source", ["", "checkpoints/best.pt"])
def test_a_run_s_weights_bring_the_run_s_normalisation(tmp_path, pretrained, normalize, source):
    weights = f"model.weights={pretrained.path / source}"
    run = start(small_config(tmp_path / "second", weights, f"dataset.normalize={normalize}", "epochs=1"), [])
    assert facts(run) == [0.3, 0.7]
    shutil.rmtree(pretrained.path)  # the numbers stay
    assert main(["evaluate", str(run.path)]) == 0
    assert main(["resume", str(run.path), "epochs=2"]) == 0
    assert facts(run) == [0.3, 0.7]


def test_another_normalisation_is_used_and_the_difference_is_said(tmp_path, pretrained, capsys):
    given = "dataset.normalize={mean: [0.5], std: [0.5]}"
    run = start(small_config(tmp_path / "second", f"model.weights={pretrained.path}", given, "epochs=1"), [])
    assert facts(run) == [0.5, 0.5]
    assert "was trained otherwise: dataset.normalize=" in capsys.readouterr().err


def test_weights_that_tell_nothing(tmp_path, pretrained, capsys):
    alone = shutil.copy(pretrained.best, tmp_path / "alone.pt")
    start(small_config(tmp_path / "second", f"model.weights={alone}", "epochs=1"), [])
    assert "has no normalisation; that of the dataset is used" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="dataset.normalize: model was given, and model.weights=.*has no mean"):
        start(small_config(tmp_path / "third", f"model.weights={alone}", "dataset.normalize=model"), [])
    with pytest.raises(ConfigError, match="model.weights=None has no mean"):
        start(small_config(tmp_path / "fourth", "dataset.normalize=model"), [])


@pytest.mark.parametrize("arch", ["resnet34", "efficientnet_b0", "mobilenet_v2", "vit_b_16"])
def test_what_torchvision_s_weights_expect_is_what_its_transforms_do(arch):
    for name, weights in models.get_model_weights(arch).__members__.items():
        told = weights.transforms()
        expected = find_expected("torchvision", arch, name)
        assert (list(expected.mean), list(expected.std)) == (told.mean, told.std)
        assert [expected.image_size] == told.crop_size


def test_what_timm_s_weights_expect():
    timm = pytest.importorskip("timm")
    told = timm.create_model("efficientnet_lite0").pretrained_cfg
    expected = find_expected("timm", "efficientnet_lite0", "DEFAULT")
    assert (expected.mean, expected.std, expected.interpolation) == (told["mean"], told["std"], told["interpolation"])


def test_differences_of_size_and_interpolation_are_said(capsys):
    from cnnlab.config import parse
    from cnnlab.data import Facts
    from cnnlab.experiment.normalisation import settle_normalisation
    from tests.conftest import compose_tree

    overrides = ["model=torchvision", "model.arch=efficientnet_b0", "model.weights=DEFAULT"]
    config = parse(compose_tree(*overrides))
    settled = settle_normalisation(config, Facts(("a", "b"), 3, 128))
    assert settled.dataset.shared.normalize == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    said = capsys.readouterr().err
    assert "images of 128 pixels a side (theirs: 224)" in said and "bilinear interpolation (theirs: bicubic)" in said
    grey = settle_normalisation(config, Facts(("a", "b"), 1, 224))
    assert grey.dataset.shared.normalize is None
