from __future__ import annotations

import json

import pytest
import torch
from torchvision import models

from cnnlab.cli import main
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.errors import ConfigError
from cnnlab.runs.evaluation import evaluate_run, print_evaluation
from cnnlab.runs.start import resume, start
from tests.conftest import small_config
from tests.data.files import write_photographs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # Augmented, so that looking at the training images as they are is not what training saw.
    return start(small_config(tmp_path_factory.mktemp("run"), "augment=shift"), [])


def test_the_best_checkpoint_gives_the_summarys_numbers_again(run):
    summary = run.read_json(run.summary)
    test = evaluate_run(str(run.path))
    assert {key: test[key] for key in ("loss", "accuracy", "log_loss")} == summary["test"]
    valid = evaluate_run(str(run.path), "valid")
    assert (valid["loss"], valid["accuracy"]) == (summary["best"]["valid_loss"], summary["best"]["valid_accuracy"])


def test_training_images_are_looked_at_in_order_and_without_augmentation(run):
    first, second = (evaluate_run(str(run.path), "train", "last") for _ in range(2))
    assert first == second and first["images"] == 1294


def test_changes_that_mean_nothing_to_a_trained_run_are_refused_all_at_once(run, capsys):
    given = ["optimizer.lr=3", "epochs=9", "model.weights=other.pth", "engine.patience=2", "split.seed=0"]
    assert main(["evaluate", str(run.path), *given]) == 2
    told = capsys.readouterr().err
    for key in ("optimizer.lr", "epochs", "model.weights", "engine.patience"):
        assert f"{key}: changes nothing of a trained run" in told
    assert "split.seed" not in told
    assert main(["evaluate", str(run.path), "split.seed=0", "engine.eval_batch_size=7"]) == 0


def test_weights_without_a_run_are_evaluated_as_those_of_one(run, tmp_path, capsys):
    state = load_checkpoint(run.find_weights())["model"]
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "sent.pth")
    arguments = ["model=mnist_cnn", f"model.weights={tmp_path}/sent.pth", "dataset.image_size=12", "engine.device=cpu"]
    normalize = run.read_json(run.dataset)
    given = f"dataset.normalize={{mean: {normalize['mean']}, std: {normalize['std']}}}"
    assert main(["evaluate", *arguments, given, "--json"]) == 0
    found, expected = json.loads(capsys.readouterr().out), evaluate_run(str(run.path))
    assert found.pop("weights") == f"{tmp_path}/sent.pth"
    assert found == {key: value for key, value in expected.items() if key not in ("run", "checkpoint", "changed")}
    assert main(["evaluate", *arguments, "dataset.normalize={mean: [0], std: [1]}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] != expected["loss"]


def test_weights_of_other_classes_are_not_evaluated_by_a_new_layer(tmp_path, capsys):
    run = start(small_config(tmp_path, "steps=1", "model=linear"), [])
    state = load_checkpoint(run.last)["model"]
    torch.save({key: value[:7] for key, value in state.items()}, tmp_path / "seven.pth")
    weights = f"model.weights={tmp_path}/seven.pth"
    assert main(["evaluate", "model=linear", "dataset.image_size=12", weights]) == 2
    assert "of another shape" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("imagenet", "3 channels, and digits has 1"),
        ("{mean: [0.1, 0.2], std: [1, 1]}", "2 channels, and digits has 1"),
        ("{mean: [0.1], std: [0]}", "expected {mean:"),
        ("{mean: [0.1]}", "expected {mean:"),
        ("{mean: [0.1], std: [1, 1]}", "expected {mean:"),
        ("{mean: [], std: []}", "expected {mean:"),
        ("{mean: 0.1, std: 1}", "expected one of auto, imagenet, course, model or mapping"),
    ],
)
def test_a_normalisation_that_does_not_fit(given, told, capsys):
    for command in ("train", "evaluate"):
        assert main([command, f"dataset.normalize={given}", "model.weights=nowhere.pth"]) == 2
        assert told in capsys.readouterr().err


def test_other_images_than_a_run_began_with_are_told(tmp_path, capsys):
    write_photographs(tmp_path / "data", 20, 16, 16)
    dataset = ["dataset=image_folder", f"dataset.root={tmp_path}/data", "dataset.image_size=12"]
    run = start(small_config(tmp_path / "runs", *dataset, "epochs=1"), [])
    assert main(["evaluate", str(run.path)]) == 0
    assert "than the run began with" not in capsys.readouterr().err
    next((tmp_path / "data").glob("*/*.jp*")).unlink()
    assert main(["evaluate", str(run.path)]) == 0
    assert "other images, labels or split than the run began with: " in capsys.readouterr().err


def test_a_dataset_that_has_moved(tmp_path, capsys):
    write_photographs(tmp_path / "data", 20, 16, 16)
    dataset = ["dataset=image_folder", f"dataset.root={tmp_path}/data", "dataset.image_size=12"]
    run = start(small_config(tmp_path / "runs", *dataset, "epochs=1"), [])
    (tmp_path / "data").rename(tmp_path / "moved")
    assert main(["evaluate", str(run.path)]) == 3
    assert main(["evaluate", str(run.path), f"dataset.root={tmp_path}/moved"]) == 0
    assert "than the run began with" not in capsys.readouterr().err


def test_a_part_that_a_run_does_not_have_is_refused(tmp_path):
    run = start(small_config(tmp_path, "split.valid=0"), [])
    with pytest.raises(ConfigError, match="expected one of test, train"):
        evaluate_run(str(run.path), "valid")


def test_json_is_for_programs(run, capsys):
    evaluation = evaluate_run(str(run.path))
    print_evaluation(evaluation, as_json=True)
    assert json.loads(capsys.readouterr().out) == evaluation


def test_the_file_that_training_started_from_is_not_asked_for_again(tmp_path):
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.pth")
    network = ["model=torchvision", "model.arch=squeezenet1_1", f"model.weights={tmp_path}/weights.pth"]
    run = start(small_config(tmp_path / "runs", *network, "dataset.image_size=20", "steps=1"), [])
    (tmp_path / "weights.pth").unlink()
    assert evaluate_run(str(run.path))["loss"] == run.read_json(run.summary)["test"]["loss"]
    resume(str(run.path), ["steps=2"])
    assert run.read_config()["model"]["weights"] == f"{tmp_path}/weights.pth"
    assert run.read_json(run.summary)["totals"]["steps"] == 2


def test_a_run_of_version_0_1_is_evaluated_and_predicts_but_does_not_go_on(tmp_path, capsys):
    """As that version wrote it: its checkpoints, its summary, a configuration without what came later."""
    run = start(small_config(tmp_path), [])
    expected = evaluate_run(str(run.path))
    tree = run.read_config()
    del tree["engine"]["deterministic"], tree["model"]["weights"]
    run.write_yaml(run.config, tree)
    summary = run.read_json(run.summary)
    summary["engine"] = summary.pop("compute")
    del summary["chosen"], summary["cnnlab"]
    run.write_json(run.summary, summary)
    for path in (run.last, run.previous, run.best):
        contents = load_checkpoint(path)
        if "state" in contents:
            contents["state"]["rows"] = run.read_metrics()
        contents.pop("average", None)
        torch.save(contents | {"format": 1}, path)
    assert evaluate_run(str(run.path)) == expected
    assert main(["predict", str(run.path), "--part", "test"]) == 0
    assert main(["resume", str(run.path), "epochs=3"]) == 5
    assert "was written by cnnlab 0.1, and this version does not go on with it" in capsys.readouterr().err
    assert run.read_json(run.summary)["test"] == summary["test"]


def test_without_test_images_the_validation_images_are_taken_and_that_is_said(tmp_path, capsys):
    run = start(small_config(tmp_path, "split.test=0", "epochs=1"), [])
    assert evaluate_run(str(run.path)) == evaluate_run(str(run.path), "valid")
    assert "no test images: evaluated on the validation images" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--part test: there are no such images"):
        evaluate_run(str(run.path), "test")


def test_the_first_line_names_the_architecture_and_all_its_parameters(tmp_path, capsys):
    given = [
        "model=torchvision",
        "model.arch=squeezenet1_1",
        "dataset.image_size=20",
        "model.freeze=backbone",
        "steps=1",
    ]
    start(small_config(tmp_path, *given, "batch_size=8"), [])
    assert "torchvision squeezenet1_1 (726,474 parameters, 5,130 of them learning) on" in capsys.readouterr().out


def test_images_of_a_size_that_the_network_does_not_take_are_refused(tmp_path):
    run = start(small_config(tmp_path, "epochs=1"), [])
    with pytest.raises(ConfigError, match="images of 1×8×8 stop at"):
        evaluate_run(str(run.path), overrides=["dataset.image_size=8"])
