"""Weights and thresholds against scipy and against trying every cut; what anybody submits against the rules."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.data import Facts
from cnnlab.errors import ConfigError
from cnnlab.runs.ensemble import (
    cross_fit,
    fit_thresholds,
    fit_weights,
    measure_accuracy,
    measure_f1,
    measure_log_loss,
    mix_scores,
)
from cnnlab.runs.predict import predict
from cnnlab.runs.start import start
from cnnlab.runs.submission import clip_probabilities
from cnnlab.runs.trained import load_trained
from cnnlab.tasks import TASKS
from tests.conftest import compose_tree, small_config
from tests.data.kaggle import write_dog_breeds, write_dogs_vs_cats


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_a_general_optimiser(seed):
    rng = np.random.default_rng(seed)
    right = rng.beta((2, 4, 1)[:3], 1, (200, 3)).T  # of runs of unlike skill

    def loss(free):
        weights = np.exp(free) / np.exp(free).sum()
        return measure_log_loss(right, weights)

    expected = minimize(
        loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 10000}
    )
    weights = fit_weights(right)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert measure_log_loss(right, weights) == pytest.approx(expected.fun, abs=1e-7)


def judge(measure, scores, labels, cut):
    has, is_so = scores >= cut, labels == 1
    counts = [(has & is_so).sum(), (has & ~is_so).sum(), (~has & is_so).sum(), (~has & ~is_so).sum()]
    return measure(np.array(counts)[:, None])[0]


@pytest.mark.parametrize("measure", [measure_f1, measure_accuracy])
def test_a_threshold_is_the_best_of_all(measure):
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 2, (30, 1))
        scores = (rng.random((30, 1)) + 0.4 * labels).round(1).clip(0, 1)
        (found,) = fit_thresholds(scores, labels, measure)
        best = max(judge(measure, scores, labels, cut) for cut in np.linspace(0.001, 1, 1000))
        assert judge(measure, scores, labels, found) == best


@pytest.mark.parametrize("least", [0.01, 0.1, 0.24])
def test_clipped_probabilities_are_not_below_the_least_and_sum_to_one(least):
    facts = Facts(("a", "b", "c", "d"), 3, 8)
    for row in np.random.default_rng(0).dirichlet([0.3] * 4, 100):
        clipped = clip_probabilities(facts, row, least)
        assert clipped.min() >= least - 1e-12 and clipped.sum() == pytest.approx(1)
        if row.min() >= least:
            assert (clipped == row).all()
        assert (np.argsort(clipped, kind="stable")[-1] == row.argmax()) or clipped.max() == pytest.approx(least)


# --- Runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets")
    write_dogs_vs_cats(folder / "data", num_train=60, sides=(20, 50))
    keys = ["dataset=dogs_vs_cats", f"dataset.root={folder / 'data'}", "dataset.resize=null", "batch_size=8"]
    keys += ["split.test=0", "split.valid=0.4"]
    return folder / "data", [
        start(small_config(folder, *keys, *more), [])
        for more in (["optimizer.lr=0.003"], ["seed=1", "optimizer.lr=1e-5"], ["folds=2", "epochs=1"])
    ]


def read_column(path, name):
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_runs_count_by_their_weights(pets, tmp_path):
    runs = [str(run) for run in pets[1][:2]]
    parts = []
    for run in runs:
        predict([run])
        parts.append(np.array(read_column(pets[1][runs.index(run)].predictions, "dog"), dtype=float))
    predict(runs, weights="3,1")
    both = np.array(read_column(pets[1][0].predictions, "dog"), dtype=float)
    assert both == pytest.approx((3 * parts[0] + parts[1]) / 4, abs=1e-7)
    predict(runs)
    both = np.array(read_column(pets[1][0].predictions, "dog"), dtype=float)
    assert both == pytest.approx((parts[0] + parts[1]) / 2, abs=1e-7)


def test_weights_are_fitted_to_images_that_were_held_out_and_what_that_gains_is_said(pets, capsys):
    runs = pets[1][:2]
    predict([str(run) for run in runs], weights="fit")
    told = capsys.readouterr().out
    right = []
    for run in runs:
        trained = load_trained(run)
        valid = trained.read_parts()["valid"]
        p = trained.compute_outputs(valid).softmax(1).numpy()
        right.append(p[np.arange(len(p)), valid.labels.numpy()])
    weights = fit_weights(np.stack(right))
    assert f"fitted on 24 images that were held out: {weights[0]:.4f} {runs[0]}  {weights[1]:.4f} {runs[1]}" in told
    losses = measure_log_loss(np.stack(right), np.array([0.5, 0.5])), measure_log_loss(np.stack(right), weights)
    assert f"log loss there {losses[0]:.4f} with equal weights" in told and f"{losses[1]:.4f} with these" in told
    with pytest.raises(ConfigError, match="held other images out than"):
        predict([str(runs[0]), str(pets[1][2])], weights="fit")


def test_a_threshold_decides_in_both_tables(pets):
    run = pets[1][0]
    predict([str(run)], value="number", threshold="0.7")
    dogs = np.array(read_column(run.predictions, "dog"), dtype=float)
    assert read_column(run.submission, "label") == [str(int(p >= 0.7)) for p in dogs]
    assert read_column(run.predictions, "prediction") == [("cat", "dog")[int(p >= 0.7)] for p in dogs]


def test_numbers_have_no_weights_to_fit_and_no_thresholds(tmp_path):
    keys = ["experiment=linear_regression", "epochs=1", f"output_dir={tmp_path}"]
    runs = [str(start(parse(compose_tree(*keys, f"seed={seed}")), [])) for seed in range(2)]
    with pytest.raises(ConfigError, match="--weights fit: is for probabilities, and regression has none"):
        predict(runs, weights="fit", part="test")
    with pytest.raises(ConfigError, match="--threshold fit: is for two classes, or .*, and this is regression"):
        predict(runs, threshold="fit", part="test")
    predict(runs, weights="3,1", part="test")


def test_without_validation_images_there_is_nothing_to_fit_to(pets, tmp_path):
    keys = ["dataset=dogs_vs_cats", f"dataset.root={pets[0]}", "dataset.resize=null", "split.test=0", "split.valid=0"]
    run = str(start(small_config(tmp_path, *keys, "epochs=1"), []))
    with pytest.raises(ConfigError, match=r"fit: .* has no validation images to fit to; expected numbers, or runs"):
        predict([run], value="number", threshold="fit")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": "1,2"}, "--weights: '1,2' was given; expected 1 numbers with commas, one for each run, or fit"),
        ({"weights": "fit"}, "--weights fit: one run was given; expected two or more"),
        ({"weights": "fit", "average": "logits"}, "--weights fit: is for the mean of probabilities, not of logits"),
        ({"weights": "-1"}, "--weights: '-1' was given"),
        ({"threshold": "high"}, "--threshold: 'high' was given; expected a number between 0 and 1, or fit"),
        ({"threshold": "0.5", "value": "probability"}, "--threshold: is for classes, and the submission has prob"),
        ({"clip": 0.1}, "--clip 0.1: is for probabilities"),
        ({"clip": 0.5, "value": "probability"}, "of 2 classes less than 0.5"),
        ({"clip": 0.1, "part": "valid"}, "--clip 0.1: is for a submission"),
    ],
)
def test_what_cannot_be_is_refused(pets, options, told):
    with pytest.raises(ConfigError, match=told):
        predict([str(pets[1][0])], **options)


# --- Any submission --------------------------------------------------------------------------------------------


def test_what_cnnlab_writes_is_a_submission(pets, capsys):
    data, (run, *_) = pets
    keys = ["dataset=dogs_vs_cats", f"dataset.root={data}"]
    for value in ("number", "probability", "class"):
        predict([str(run)], value=value)
        assert main(["submit-check", str(run.submission), *keys, "--format", value]) == 0
        assert f"is a submission to dogs_vs_cats ({value}; 12 ids)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-1], "ids that it lacks (1): 12"),
        (lambda rows: [*rows, rows[-1]], "ids that stand twice (1): 12"),
        (lambda rows: [("id", "dog"), *rows[1:]], "unknown columns (1): dog"),
        (lambda rows: [*rows[:-1], ("12", "2")], "lines whose label is none of 0 … 1 (1): 13"),
        (lambda rows: [*rows[:-1], ("12", "")], "lines with a cell that is no finite number (1): 13"),
        (lambda rows: [*rows[:-1], ("12", "1", "1")], "lines without 2 cells (1): 13"),
        (lambda rows: [*rows[:-1], ("99", "1")], "ids without an image to predict (1): 99"),
    ],
)
def test_what_a_competition_would_refuse_is_told(pets, tmp_path, change, told, capsys):
    rows = change([("id", "label"), *((str(number), "1") for number in range(1, 13))])
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert main(["submit-check", str(tmp_path / "mine.csv"), "dataset=dogs_vs_cats", f"dataset.root={pets[0]}"]) == 3
    assert told in capsys.readouterr().out


def test_probabilities_of_every_class_are_checked(tmp_path, capsys):
    write_dog_breeds(tmp_path)
    sample = tmp_path / "sample_submission.csv"
    keys = ["dataset=dog_breeds", f"dataset.root={tmp_path}"]
    assert main(["submit-check", str(sample), *keys]) == 0
    lines = sample.read_text().splitlines()
    lines[1] = lines[1].replace("0.25", "0.5")
    lines[2] = lines[2].replace("0.25", "1.25", 1)
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    capsys.readouterr()
    assert main(["submit-check", str(tmp_path / "mine.csv"), *keys]) == 3
    out = capsys.readouterr().out
    assert "lines with a probability outside 0 … 1 (1): 3" in out
    assert "lines whose probabilities do not sum to one (2): 2, 3" in out
    assert main(["submit-check", str(tmp_path / "nowhere.csv"), *keys]) == 3
    assert main(["submit-check", str(sample), "dataset=digits"]) == 2


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_runs_are_mixed_as_they_predict(task):
    facts = Facts(task=TASKS[task], classes=("a", "b"), channels=1, image_size=8)
    logits = torch.randn(3, 20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    scores, shares = (
        torch.stack([facts.task.to_scores(each) for each in logits]),
        torch.tensor([0.5, 0.3, 0.2]).double(),
    )
    mixed = mix_scores(scores.numpy(), shares.numpy(), facts, "logits")
    expected = facts.task.to_scores(torch.einsum("r,rns->ns", shares, logits))
    np.testing.assert_allclose(mixed, expected.numpy(), rtol=1e-9)
    even = mix_scores(scores.numpy(), shares.numpy(), facts, "probabilities")
    np.testing.assert_allclose(even, torch.einsum("r,rns->ns", shares, scores).numpy(), rtol=1e-12)
    certain = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    assert np.isfinite(mix_scores(certain, shares.numpy(), facts, "logits")).all()


def test_one_image_cannot_be_halved():
    with pytest.raises(ConfigError, match="fit: 1 image was held out; expected two or more"):
        cross_fit(1, lambda half: half, lambda found, half: 0.0)
