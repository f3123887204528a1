from __future__ import annotations

import json

import pytest

from cnnlab.errors import ConfigError
from cnnlab.runs.reproduction import compare_metrics, reproduce
from cnnlab.runs.start import start
from tests.conftest import small_config


@pytest.fixture
def run(tmp_path):
    return start(small_config(tmp_path, "augment=shift"), [])


def test_the_same_machine_gives_the_same_numbers(run, capsys):
    assert reproduce(str(run.path), []) is True
    assert "identical: 2 epochs, the test metrics and every weight" in capsys.readouterr().out
    assert len(list(run.path.parent.iterdir())) == 2  # a new directory, the old one untouched


def test_a_difference_is_shown_with_its_first_epoch_and_the_environments(run, capsys):
    rows = run.read_metrics()
    rows[1]["valid_loss"] = "0.5"
    run.write_metrics(rows)
    environment = run.read_json(run.environment)
    environment["packages"]["torch"] = "1.0"
    run.write_json(run.environment, environment)
    assert reproduce(str(run.path), []) is False
    output = capsys.readouterr().out
    assert "different, first at epoch 2; the weights at the end are the same" in output
    assert "packages.torch: 1.0 →" in output
    assert any(line.split()[:4] == ["epoch", "2", "valid_loss", "0.5"] for line in output.splitlines())


def test_another_seed_is_not_a_repetition(run):
    assert reproduce(str(run.path), ["seed=1"]) is False


def test_only_completed_runs_are_reproduced(run):
    run.write_text(run.summary, json.dumps({"status": "interrupted"}))
    with pytest.raises(ConfigError, match="is interrupted, not completed"):
        reproduce(str(run.path), [])


def test_a_missing_epoch_is_a_difference():
    rows = [{"epoch": "1", "train_loss": "1.0"}, {"epoch": "2", "train_loss": "0.5"}]
    differences = compare_metrics(rows, rows[:1])
    assert ("epoch 2", "train_loss", "0.5", "-") in differences
    assert compare_metrics(rows, rows) == []


def test_a_cross_validation_is_repeated_fold_by_fold(tmp_path, capsys):
    whole = start(small_config(tmp_path, "folds=3", "epochs=1"), [])
    assert reproduce(str(whole.path), []) is True
    out = capsys.readouterr().out
    assert [out.count(f"fold_{number}:\n") for number in range(3)] == [1, 1, 1]
    assert out.count("identical: 1 epochs") == 3 and "out of fold, 3 folds" in out
    summary = whole.fold(1).read_json(whole.fold(1).summary)
    whole.write_json(whole.fold(1).summary, summary | {"test": summary["test"] | {"loss": 0.0}})
    assert reproduce(str(whole.path), []) is False
    out = capsys.readouterr().out
    assert out.count("identical: 1 epochs") == 2 and "test_loss" in out
