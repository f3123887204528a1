"""Metrics on request, against slow ones counted pair by pair and from the confusion matrix."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.engine.evaluate import evaluate
from cnnlab.engine.loop import improves
from cnnlab.engine.network import Network
from cnnlab.errors import ConfigError, DataError
from cnnlab.experiment.assembly import assemble
from cnnlab.metrics import METRICS, measure
from cnnlab.optim.losses import Criterion
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.outcome import explain_never_predicted
from cnnlab.runs.start import resume, start
from cnnlab.tasks import MULTICLASS
from tests.conftest import SMALL, compose_tree, small_config

RNG = np.random.default_rng(0)


def draw(num_classes: int, num_images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know a little, rounded so that some are equal; the last class has no image."""
    labels = RNG.integers(0, max(2, num_classes - 1), num_images)
    logits = RNG.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += 1
    p = np.exp(logits.round(1))
    return p / p.sum(1, keepdims=True), labels


def auc_by_pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    return sum(wins) / len(wins)


def slow(p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    num_images, num_classes = p.shape
    predicted = p.argmax(1)
    confusion = np.zeros((num_classes, num_classes))
    for label, prediction in zip(labels, predicted, strict=True):
        confusion[label, prediction] += 1
    there = [c for c in range(num_classes) if (labels == c).any()]
    auc = (
        auc_by_pairs(p[labels == 1, 1], p[labels == 0, 1])
        if num_classes == 2
        else np.mean([auc_by_pairs(p[labels == c, c], p[labels != c, c]) for c in there])
    )
    f1 = [
        2 * confusion[c, c] / max(confusion[c].sum() + confusion[:, c].sum(), 1)  # 2 tp / (2 tp + fp + fn)
        for c in range(num_classes)
    ]
    expected = np.outer(confusion.sum(1), confusion.sum(0)) / num_images
    i, j = np.indices(confusion.shape)
    top5 = [label in np.argsort(-row, kind="stable")[:5] for row, label in zip(p, labels, strict=True)]
    return {
        "auc": auc,
        "macro_f1": np.mean(f1),
        "balanced_accuracy": np.mean([confusion[c, c] / confusion[c].sum() for c in there]),
        "kappa": 1 - ((i != j) * confusion).sum() / ((i != j) * expected).sum(),
        "quadratic_kappa": 1 - ((i - j) ** 2 * confusion).sum() / ((i - j) ** 2 * expected).sum(),
        "top5_accuracy": np.mean(top5),
    }


@pytest.mark.parametrize("num_classes", [2, 3, 8])
def test_each_is_what_counting_gives(num_classes):
    p, labels = draw(num_classes)
    if num_classes > 5:
        p = p + RNG.uniform(0, 1e-9, p.shape)  # which of equals are the five likeliest is nobody's to say
    names = [name for name in METRICS if name != "top5_accuracy" or num_classes > 5]
    expected = slow(p, labels)
    assert measure(names, p, labels) == pytest.approx({name: expected[name] for name in names}, abs=1e-12)


def test_what_is_not_defined(monkeypatch):
    one = np.zeros(4, dtype=int)
    p = np.array([[0.9, 0.1]] * 4)
    with pytest.raises(DataError, match="all of these images are of one class"):
        measure(["auc"], p, one)
    assert measure(["kappa", "quadratic_kappa", "macro_f1"], p, one) == {
        "kappa": 1.0, "quadratic_kappa": 1.0, "macro_f1": 0.5,
    }  # fmt: skip
    assert measure([], p, one) == {}


def test_an_evaluation_in_batches_measures_all_images():
    p, labels = draw(8)

    class Logits:
        num_examples, batch_size = 200, 33

        def __len__(self):
            return 7

        def batch(self, epoch, number):
            chosen = slice(33 * number, 33 * number + 33)
            return torch.from_numpy(np.log(p))[chosen], torch.from_numpy(labels)[chosen]

    network = Network(torch.nn.Identity(), torch.device("cpu"), MULTICLASS)
    found = evaluate(network, Criterion(torch.nn.functional.cross_entropy), Logits(), ("auc", "kappa"))
    expected = slow(p, labels)
    assert found["auc"] == pytest.approx(expected["auc"], abs=1e-6)
    assert found["kappa"] == pytest.approx(expected["kappa"], abs=1e-12)


def test_higher_is_better():
    for name in METRICS:
        assert improves({f"valid_{name}": 0.6}, {f"valid_{name}": 0.5}, f"valid_{name}")


def test_a_run_selects_by_one_and_writes_all_that_are_wanted(tmp_path):
    overrides = ["engine.select_by=valid_macro_f1", "engine.metrics=[top5_accuracy]", "engine.stop_by=valid_auc"]
    run = start(small_config(tmp_path, *overrides, "engine.patience=5"), [])
    rows, summary = run.read_metrics(), run.read_json(run.summary)
    wanted = {"auc", "macro_f1", "top5_accuracy"}
    assert {f"valid_{name}" for name in wanted} <= rows[0].keys() and wanted <= summary["test"].keys()
    assert summary["best"]["valid_macro_f1"] == max(row["valid_macro_f1"] for row in rows)
    evaluation = evaluate_run(str(run))
    assert {name: evaluation[name] for name in wanted} == {name: summary["test"][name] for name in wanted}
    assert evaluation["macro_f1"] == pytest.approx(evaluation["mean_of_classes"]["f1"], abs=1e-12)


def test_folds_are_measured_so_too(tmp_path):
    run = start(small_config(tmp_path, "folds=2", "epochs=1", "engine.metrics=[quadratic_kappa]"), [])
    summary = json.loads(run.summary.read_text())
    table = np.genfromtxt(run.out_of_fold, delimiter=",", names=True, dtype=None, encoding="utf-8")
    for fold in summary["folds"]:
        part = table[table["fold"] == fold["fold"]]
        one_hot = np.eye(10)[part["prediction"]]
        assert fold["quadratic_kappa"] == pytest.approx(slow(one_hot, part["label"])["quadratic_kappa"], abs=1e-12)


# --- Classes that are never predicted ---------------------------------------------------------------------


def find_missed(run, part: str) -> list[str]:
    confusion = np.array(evaluate_run(str(run), part)["confusion"])
    return [str(digit) for digit in range(10) if confusion[digit].sum() and not confusion[:, digit].sum()]


def test_classes_that_the_selected_network_never_predicts_are_named(tmp_path, capsys):
    """Of validation and of test, in one line, also by a run that was stopped after its best epoch."""
    keys = ["optimizer.lr=1e-12", "epochs=2", "engine.device=cpu"]
    run = start(small_config(tmp_path, *keys), [])
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("classes never predicted")]
    valid, test = find_missed(run, "valid"), find_missed(run, "test")
    assert valid and test
    assert f"best so far, {len(valid)} of the classes never predicted" in out
    where = f"({len(valid)}): {', '.join(valid)}"
    assert f"on the validation images {where}" in line or f"on the validation and test images {where}" in line
    assert f"test images ({len(test)}): {', '.join(test)}" in line
    helps = "engine.select_by=valid_macro_f1, loss.class_weights=auto, sampling=balanced"
    assert line.endswith(f"; to count them as much as others: {helps}")
    resumed = start(small_config(tmp_path / "again", *keys, "epochs=1"), [])
    capsys.readouterr()
    resume(str(resumed.path), ["epochs=2"])
    assert line in capsys.readouterr().out.splitlines()


def test_what_was_done_for_the_rare_is_not_advised_again(tmp_path):
    keys = ["engine.select_by=valid_balanced_accuracy", "loss.class_weights=auto"]
    config = small_config(tmp_path, *keys)
    assert explain_never_predicted(config, MULTICLASS, {"validation": [], "test": []}) is None
    assert explain_never_predicted(config, MULTICLASS, {"validation": ["a"], "test": ["a"]}) == (
        "classes never predicted on the validation and test images (1): a; to count them as much as others: "
        "sampling=balanced"
    )
    assert explain_never_predicted(
        small_config(tmp_path, *keys, "sampling=balanced"), MULTICLASS, {"test": ["a", "b"]}
    ) == ("classes never predicted on the test images (2): a, b")


# --- Asked for wrongly ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["engine.select_by=valid_auk"], "did you mean valid_auc"),
        (["engine.metrics=[f1]"], "engine.metrics: no 'f1'; "),
        (["split.valid=0", "engine.stop_by=valid_auc"], "engine.stop_by: valid_auc was given; this run has"),
    ],
)
def test_what_cannot_be_measured_is_told(tmp_path, overrides, told):
    with pytest.raises(ConfigError, match=told.replace("[", r"\[")):
        assemble(small_config(tmp_path, *overrides))


def test_numbers_have_none(tmp_path):
    tree = compose_tree("experiment=linear_regression", "engine.metrics=[auc]", f"output_dir={tmp_path}")
    with pytest.raises(ConfigError, match="engine.metrics: auc are of classes, and regression has none"):
        assemble(parse(tree))


def test_a_run_goes_on_with_the_metrics_it_began_with(tmp_path):
    run = start(small_config(tmp_path, "epochs=1", "engine.metrics=[kappa]"), [])
    with pytest.raises(ConfigError, match="the run has the metrics kappa, and would have auc, kappa"):
        resume(str(run.path), ["epochs=2", "engine.stop_by=valid_auc"])
    assert len(resume(str(run.path), ["epochs=2", "engine.stop_by=valid_kappa"]).read_metrics()) == 2


def test_what_trials_are_compared_by_they_measure(tmp_path):
    keys = ["engine.metrics=[kappa]", "sweep.metric=valid_auc", f"output_dir={tmp_path}", *SMALL]
    assert main(["train", "-m", "optimizer.lr=0.001,0.01", "epochs=1", *keys]) == 0
    (table,) = tmp_path.glob("sweeps/*/trials.csv")
    scores = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8")["valid_auc"]
    assert ((scores > 0.5) & (scores <= 1)).all()
