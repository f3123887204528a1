"""What a run says of an outcome that is no better than guessing, and of frozen weights that nothing has trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlab.engine.evaluate import Metrics
from cnnlab.runs.outcome import explain_outcome, warn_of_random_features
from cnnlab.runs.start import start
from tests.conftest import small_config


def metrics_of(*confusion: list[int]) -> Metrics:
    counts = torch.tensor(confusion)
    return Metrics({"accuracy": counts.diag().sum().item() / counts.sum().item()}, counts)


def explain(tmp_path, *confusion: list[int], train_accuracy: float = 0.5, network: nn.Module | None = None):
    config = small_config(tmp_path, "optimizer=sgd", "optimizer.lr=3")
    return explain_outcome(
        config, network or nn.ReLU(), "test", metrics_of(*confusion), {"train_accuracy": train_accuracy}
    )


@pytest.mark.parametrize(
    ("confusion", "is_told"),
    [
        (([50, 0], [50, 0]), True),
        (([30, 20], [20, 30]), True),  # 0.6 of 100 is two standard errors above a half, and may be luck
        (([31, 19], [20, 30]), False),
        (([900, 0], [100, 0]), True),  # 0.9, by naming the larger class
        (([880, 20], [60, 40]), False),  # 0.92, where 0.919 is the bound
        (([895, 5], [80, 20]), True),  # 0.915
    ],
)
def test_an_accuracy_is_held_against_naming_the_largest_class(confusion, is_told, tmp_path):
    assert (explain(tmp_path, *confusion) is not None) == is_told


def test_the_numbers_and_the_likely_causes_are_told(tmp_path):
    told = explain(tmp_path, [60, 0], [40, 0])
    assert (
        "over 100 test images, 0.6000, is not clearly better than always naming the largest class, 0.6000; one class"
        in told
    )
    assert [line.partition("(")[0].split(",")[0].strip() for line in told.splitlines()[1:]] == [
        "- the learning rate", "- dead activations", "- labels that do not belong to their images: engine.overfit=2 "
        "shows whether two batches can be learned by heart",
    ]  # fmt: skip
    assert "optimizer.lr=3" in told
    assert "saturated activations" in explain(tmp_path, [60, 0], [40, 0], network=nn.Sigmoid())


def test_what_was_learned_by_heart_is_no_matter_of_the_rate(tmp_path):
    told = explain(tmp_path, [30, 20], [25, 25], train_accuracy=0.99)
    assert "the training images were learned (accuracy 0.9900)" in told and "learning rate" not in told


def test_numbers_have_no_classes_to_name(tmp_path):
    assert explain_outcome(small_config(tmp_path), nn.ReLU(), "test", Metrics({"loss": 9.0}), {}) is None


@pytest.mark.parametrize(
    ("overrides", "is_warned"),
    [
        (["model.freeze=backbone"], True),
        (["model.freeze=[conv1]", "model.unfreeze_after=1 epoch"], True),
        (["model.freeze=backbone", "model.weights=a.pt"], False),
        ([], False),
    ],
)
def test_freezing_what_was_never_trained_is_warned_of(overrides, is_warned, tmp_path):
    assert (warn_of_random_features(small_config(tmp_path, *overrides)) is not None) == is_warned


def test_a_run_says_both(tmp_path, capsys):
    start(small_config(tmp_path, "model.freeze=backbone", "model.feature_views=0", "steps=1"), [])
    out = capsys.readouterr().out
    assert "warning: model.freeze: backbone was given without model.weights" in out
    assert (
        "is not clearly better than always naming the largest class" in out
        and "- frozen random weights: leave out" in out
    )
    assert "warning: the accuracy" in next(tmp_path.rglob("train.log")).read_text()


def test_a_run_that_learns_says_nothing(tmp_path, capsys):
    start(small_config(tmp_path, "epochs=3"), [])
    assert "warning" not in capsys.readouterr().out
