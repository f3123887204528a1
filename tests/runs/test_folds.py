"""Cross-validation, and the final fit on everything."""

from __future__ import annotations

import csv
import statistics

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.errors import ConfigError
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.runs import folds
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.predict import predict
from cnnlab.runs.start import start
from tests.conftest import compose_tree, small_config
from tests.data.kaggle import write_dog_breeds
from tests.runs.test_resume import assert_same, metrics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("folds"), "folds=3", "epochs=1"), ["folds=3"])


def test_every_training_image_is_held_out_once(whole):
    config = small_config(whole.path, "folds=3")
    plain = read_parts(config, build_dataset(config), CPU)
    held_out = []
    for number in range(3):
        run = whole.fold(number)
        config = parse(run.read_config())
        assert (config.folds, config.fold) == (3, number)
        parts = read_parts(config, build_dataset(config), CPU)
        assert not set(parts["train"].indices.tolist()) & set(parts["valid"].indices.tolist())
        assert torch.equal(parts["test"].indices, plain["test"].indices)
        held_out.append(parts["valid"].indices)
    assert torch.equal(torch.cat(held_out).sort().values, plain["train"].indices.sort().values)


def test_out_of_fold_is_what_each_fold_says_of_its_own(whole):
    with whole.out_of_fold.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == sorted(int(row["id"]) for row in rows) and len(rows) == 1438
    scores = []
    for number in range(3):
        own = [row for row in rows if row["fold"] == str(number)]
        evaluation = evaluate_run(str(whole.fold(number)), "valid")
        accuracy = np.mean([row["label"] == row["prediction"] for row in own])
        log_loss = -np.mean([np.log(float(row[row["label"]])) for row in own])
        assert accuracy == pytest.approx(evaluation["accuracy"]) and len(own) == evaluation["images"]
        assert log_loss == pytest.approx(evaluation["loss"], rel=1e-5)
        scores.append({"accuracy": accuracy, "log_loss": log_loss})
    summary = whole.read_json(whole.summary)
    assert summary["status"] == "completed"
    for name in ("accuracy", "log_loss"):
        values = [score[name] for score in scores]
        assert summary["mean"][name] == pytest.approx(statistics.mean(values), rel=1e-6)
        assert summary["deviation"][name] == pytest.approx(statistics.stdev(values), rel=1e-5)


def test_out_of_fold_of_pictures_joins_with_their_table(tmp_path):
    write_dog_breeds(tmp_path / "data", num_train=40, sides=(14, 20))
    given = ["dataset=dog_breeds", f"dataset.root={tmp_path / 'data'}", "dataset.resize=null", "split.test=0"]
    whole = start(small_config(tmp_path / "runs", *given, "folds=2", "epochs=1", "batch_size=8"), [])
    with (tmp_path / "data" / "labels.csv").open(newline="") as file:
        labels = {row["id"]: row["breed"] for row in csv.DictReader(file)}
    with whole.out_of_fold.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["id", "fold", "path", "label", "prediction"]
    assert [row["id"] for row in rows] == sorted(labels)  # the order of the files
    assert all(row["label"] == labels[row["id"]] for row in rows)
    assert all(row["path"] == str(tmp_path / "data" / "train" / f"{row['id']}.jpg") for row in rows)
    accuracies = [
        statistics.mean(row["prediction"] == labels[row["id"]] for row in rows if row["fold"] == fold) for fold in "01"
    ]
    assert statistics.mean(accuracies) == pytest.approx(whole.read_json(whole.summary)["mean"]["accuracy"])


def test_its_folds_predict_together(whole):
    output = whole.path / "test.csv"
    assert predict([str(whole)], part="test", output=str(output)) == [output]
    with_all = output.read_text()
    predict([str(whole.fold(number)) for number in range(3)], part="test", output=str(output))
    assert output.read_text() == with_all


def test_a_fold_stopped_and_gone_on_with_ends_the_same(whole, tmp_path, monkeypatch):
    train = folds.train

    def train_or_fail(config, *others):
        if config.fold == 1:
            raise KeyboardInterrupt
        train(config, *others)

    monkeypatch.setattr(folds, "train", train_or_fail)
    with pytest.raises(KeyboardInterrupt):
        start(small_config(tmp_path, "folds=3", "epochs=1"), ["folds=3"])
    (config,) = tmp_path.glob("*/*/config.yaml")
    stopped = RunDirectory(config.parent)
    assert stopped.read_json(stopped.summary)["status"] == "interrupted"
    first = stopped.fold(0).summary.stat().st_mtime_ns
    monkeypatch.setattr(folds, "train", train)
    assert main(["resume", str(stopped)]) == 0
    assert stopped.fold(0).summary.stat().st_mtime_ns == first
    assert stopped.out_of_fold.read_bytes() == whole.out_of_fold.read_bytes()
    for number in range(3):
        ours, theirs = stopped.fold(number), whole.fold(number)
        assert metrics(ours) == metrics(theirs)
        assert_same(load_checkpoint(ours.last)["model"], load_checkpoint(theirs.last)["model"])
        assert ours.read_overrides() == ["folds=3", f"fold={number}"]


def test_other_commands_ask_for_one_fold(whole, capsys):
    assert main(["evaluate", str(whole)]) == 2
    assert "expected one of them" in capsys.readouterr().err
    assert main(["resume", str(whole), "epochs=2"]) == 2
    assert main(["evaluate", str(whole.fold(2)), "--part", "valid"]) == 0


def test_numbers_have_an_error_out_of_fold(tmp_path):
    config = compose_tree("experiment=linear_regression", "epochs=5", "folds=5", f"output_dir={tmp_path}")
    whole = start(parse(config), [])
    summary = whole.read_json(whole.summary)
    assert set(summary["mean"]) == {"mae"} and sum(fold["images"] for fold in summary["folds"]) == 15


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["folds=1"], "folds: 1 was given; expected int at least 2"),
        (["folds=3", "fold=3"], "fold: 3 was given"),
        (["fold=0"], "fold: 0 was given"),
        (["folds=3", "fit_on=train_valid"], "folds, fit_on"),
        (["fit_on=everything"], "fit_on: 'everything' was given; expected one of train, train_valid"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        small_config(tmp_path, *overrides)


# --- The final fit --------------------------------------------------------------------------------------


def test_the_final_fit_learns_from_the_validation_images_and_selects_nothing(tmp_path):
    run = start(small_config(tmp_path, "fit_on=train_valid", "epochs=1"), [])
    assert run.read_json(run.summary)["images"] == {"train": 1438, "valid": 0, "test": 359}
    assert not run.best.exists() and run.find_weights() == run.last
    assert "the last checkpoint is used" in run.log.read_text()
    usual = small_config(tmp_path)
    parts = read_parts(usual, build_dataset(usual), CPU)
    final = read_parts(parse(run.read_config()), build_dataset(usual), CPU)
    joined = torch.cat([parts["train"].indices, parts["valid"].indices]).sort().values
    assert torch.equal(final["train"].indices.sort().values, joined)
    assert torch.equal(final["test"].indices, parts["test"].indices)


def test_a_schedule_that_watches_validation_has_nothing_to_watch(tmp_path):
    config = small_config(tmp_path, "fit_on=train_valid", "schedule=reduce_on_plateau", "schedule.metric=valid_loss")
    with pytest.raises(ConfigError, match="this run has train_loss, train_accuracy"):
        start(config, [])


@pytest.mark.parametrize("resize", ["null", "14"])  # packed as squares, or whole
def test_validation_images_of_the_datasets_own_join_too(tmp_path, resize):
    for part, num in (("train", 6), ("valid", 3)):
        for number in range(2 * num):
            path = tmp_path / "data" / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    overrides = [
        "dataset=image_folder",
        f"dataset.root={tmp_path / 'data'}",
        f"dataset.resize={resize}",
        "split.test=0",
    ]
    config = small_config(tmp_path, *overrides, "fit_on=train_valid")
    parts = read_parts(config, build_dataset(config), CPU)
    assert set(parts) == {"train"}
    reds = parts["train"].images.store.take_centres(parts["train"].indices)[:, 0, 0, 0]
    assert sorted(reds.tolist()) == sorted([*range(12), *range(6)])
    config = small_config(tmp_path, *overrides, "folds=3", "fold=1")
    parts = read_parts(config, build_dataset(config), CPU)
    assert {name: batches.num_examples for name, batches in parts.items()} == {"train": 12, "valid": 6}
