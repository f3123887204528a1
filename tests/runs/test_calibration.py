"""Calibration: ECE against its definition, the temperature against the best of many, `predict --calibrated`."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.errors import ConfigError
from cnnlab.runs.calibration import bin_confidences, calibrate, expected_calibration_error, fit_temperature
from cnnlab.runs.calibration import measure_calibration as measure
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from cnnlab.tasks import BINARY, MULTICLASS, surprise
from tests.conftest import compose_tree, small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("run"), "epochs=3"), [])


def test_ece_against_its_definition():
    """Guo et al., equation 3, image by image and bin by bin."""
    generator = torch.Generator().manual_seed(0)
    confidences = torch.rand(1000, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    is_right = torch.rand(1000, generator=generator) < confidences**2
    expected = 0.0
    for m in range(1, 16):
        inside = [k for k in range(1000) if (m - 1) / 15 < confidences[k].item() <= m / 15]
        if inside:
            accuracy = sum(bool(is_right[k]) for k in inside) / len(inside)
            confidence = sum(confidences[k].item() for k in inside) / len(inside)
            expected += len(inside) / 1000 * abs(accuracy - confidence)
    assert expected_calibration_error(bin_confidences(confidences, is_right)) == pytest.approx(expected, abs=1e-12)


def test_the_edges_of_bins_belong_to_the_bin_below():
    bins = bin_confidences(torch.tensor([0.5, 0.5000001, 1.0], dtype=torch.float64), torch.tensor([True] * 3), 2)
    assert [(each.low, each.images) for each in bins] == [(0.0, 1), (0.5, 2)]


@pytest.mark.parametrize("task", [MULTICLASS, BINARY], ids=str)
@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_logits_is_found(task, true):
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(4000, 1 if task is BINARY else 5, generator=generator, dtype=torch.float64)
    labels = task.to_scores(logits).multinomial(1, generator=generator).flatten()
    temperature = fit_temperature(logits * true, labels)
    assert temperature == pytest.approx(true, rel=0.1)
    best = min((surprise(logits * true / t, labels).mean().item(), t) for t in torch.linspace(0.2, 5, 481).tolist())
    assert surprise(logits * true / temperature, labels).mean().item() <= best[0] + 1e-9
    before, after = measure(task, logits * true, labels), measure(task, logits * true, labels, temperature)
    assert after.log_loss <= before.log_loss and after.ece < 0.03


def test_where_all_is_right_the_temperature_stays_a_number():
    temperature = fit_temperature(torch.eye(3).double(), torch.arange(3))
    assert 0.05 <= temperature < 1


def test_calibration_json_agrees_with_the_run(run, capsys):
    assert main(["calibrate", str(run)]) == 0
    found = json.loads(run.calibration.read_text())
    summary = json.loads(run.summary.read_text())
    assert found["test"]["before"]["log_loss"] == pytest.approx(summary["test"]["log_loss"], abs=1e-6)
    assert found["valid"]["after"]["log_loss"] <= found["valid"]["before"]["log_loss"]
    out = capsys.readouterr().out
    assert f"temperature {found['temperature']:.4f}, fitted on 144 validation images" in out
    assert f"{found['test']['after']['ece']:.4f}" in out


def test_calibrated_predictions_are_those_at_the_temperature(run, tmp_path):
    temperature = calibrate(str(run))["temperature"]
    tables = {}
    for name, options in (("plain", []), ("calibrated", ["--calibrated"])):
        assert main(["predict", str(run), "--part", "test", "--output", str(tmp_path / name), *options]) == 0
        tables[name] = list(csv.DictReader((tmp_path / name).open()))
    for plain, mended in zip(tables["plain"], tables["calibrated"], strict=True):
        logarithms = torch.tensor([math.log(float(plain[str(k)])) for k in range(10)], dtype=torch.float64)
        expected = (logarithms / temperature).softmax(0)
        got = torch.tensor([float(mended[str(k)]) for k in range(10)], dtype=torch.float64)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-8)
        assert plain["prediction"] == mended["prediction"]


def test_what_cannot_be_calibrated_is_refused(run, tmp_path):
    other = start(small_config(tmp_path, "epochs=1", "split.valid=0"), [])
    with pytest.raises(ConfigError, match="no validation images"):
        calibrate(str(other))
    assert main(["predict", str(other), "--part", "test", "--calibrated"]) == 2
    other.write_json(other.calibration, json.loads(run.calibration.read_text()) if run.calibration.exists() else {})
    assert main(["predict", str(other), "--part", "test", "--calibrated"]) == 2
    tree = compose_tree("experiment=linear_regression", "epochs=1", f"output_dir={tmp_path}")
    line = start(parse(tree), [])
    with pytest.raises(ConfigError, match="is of a regression problem"):
        calibrate(str(line))
