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
