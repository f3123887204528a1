"""Scores of classes, against slow ones counted image by image."""

from __future__ import annotations

import math

import pytest
import torch

from cnnlab.engine.evaluate import ClassCounts, Metrics, add_class_counts, evaluate
from cnnlab.engine.network import Network
from cnnlab.optim.losses import Criterion
from cnnlab.runs.classes import average, list_scores, score_classes, write_table
from cnnlab.tasks import BINARY, MULTICLASS, MULTILABEL, REGRESSION, count_hits

NAMES = ("ant", "bee", "cat", "dog")
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.randint(0, 3, (60,), generator=GENERATOR)  # no dog
LOGITS = torch.randn(60, 4, generator=GENERATOR) * 2
LOGITS[:, 1] = -20  # never predicted


def count(outputs: torch.Tensor, labels: torch.Tensor, task=MULTICLASS) -> Metrics:
    """In batches of 7, the last one of 4."""
    counts = ClassCounts(torch.device("cpu"), task, outputs.shape[1])
    for chosen in torch.arange(60).split(7):
        counts.add(outputs[chosen], labels[chosen])
    return add_class_counts({}, counts)


def test_confusion_precision_recall_and_f1_image_by_image():
    metrics = count(LOGITS, LABELS)
    confusion = metrics.confusion
    answers = [max(range(4), key=row.__getitem__) for row in LOGITS.tolist()]
    pairs = list(zip(LABELS.tolist(), answers, strict=True))
    assert confusion.tolist() == [[pairs.count((label, answer)) for answer in range(4)] for label in range(4)]
    for label, score in enumerate(score_classes(metrics.hits, NAMES)):
        right = pairs.count((label, label))
        answered, there = answers.count(label), LABELS.tolist().count(label)
        precision, recall = right / answered if answered else 0.0, right / there if there else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert score[:2] == (NAMES[label], there)
        assert score[2:] == pytest.approx((precision, recall, f1))


def test_what_is_never_predicted_is_found():
    """No prediction of a class that there is, nor of a label; dogs there are none of."""
    assert count(LOGITS, LABELS).find_never_predicted() == [1]
    assert count_hits(torch.tensor([[5, 0], [3, 0]])).tolist() == [[5, 0], [3, 0], [0, 3]]
    has, labels = torch.tensor([[True, False, False]] * 4), torch.tensor([[1.0, 1.0, 0.0]] * 4)
    hits = MULTILABEL.count_hits(has, labels)
    assert hits.tolist() == [[4, 0, 0], [0, 0, 0], [0, 4, 0]]
    assert Metrics({}, hits=hits).find_never_predicted() == [1]
    assert Metrics({}).find_never_predicted() == []


def test_the_log_loss_is_that_of_competitions():
    logits = LOGITS.clone()
    logits[0, LABELS[0]] = -90  # a probability below 1e-15
    losses = []
    for row, label in zip(logits.double().tolist(), LABELS.tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(value) for value in row)
        losses.append(-math.log(min(max(p, 1e-15), 1 - 1e-15)))
    assert losses[0] == pytest.approx(34.5388, rel=1e-5)
    assert count(logits, LABELS)["log_loss"] == pytest.approx(sum(losses) / 60, rel=1e-5)


def test_one_logit_has_a_confusion_of_two_classes():
    labels = (LABELS > 0).long()
    metrics = count(LOGITS[:, :1], labels, BINARY)
    pairs = list(zip(labels.tolist(), [int(value > 0) for value in LOGITS[:, 0].tolist()], strict=True))
    assert metrics.confusion.tolist() == [[pairs.count((a, b)) for b in range(2)] for a in range(2)]
    p = [1 / (1 + math.exp(-value)) for value in LOGITS[:, 0].double().tolist()]
    losses = [-math.log(p if label else 1 - p) for p, label in zip(p, labels.tolist(), strict=True)]
    assert metrics["log_loss"] == pytest.approx(sum(losses) / 60, rel=1e-5)


def test_a_number_has_no_classes():
    class Line:
        num_examples, batch_size = 4, 4

        def __len__(self):
            return 1

        def batch(self, epoch, number):
            return torch.ones(4, 1), torch.zeros(4, 1)

    metrics = evaluate(
        Network(torch.nn.Identity(), torch.device("cpu"), REGRESSION), Criterion(torch.nn.functional.mse_loss), Line()
    )
    assert metrics.values == {"loss": 1.0, "mae": 1.0} and metrics.confusion is None


def test_table_and_csv_say_the_same():
    scores = score_classes(count(LOGITS, LABELS).hits, NAMES)
    header, *lines = write_table(scores).splitlines()
    assert len(lines) == 5 and len({len(line) for line in [header, *lines]}) == 1
    _, *rows = list_scores(scores)
    for line, row in zip(lines, rows, strict=False):
        assert line.split() == [row[0], str(row[1]), *(f"{float(value):.4f}" for value in row[2:])]
    assert average(scores).f1 == pytest.approx(sum(score.f1 for score in scores) / 4)
    assert average(scores).images == 60
