"""Confident learning, against the package of the paper's authors, and on labels that were changed."""

from __future__ import annotations

import pytest
import torch

from cnnlab.runs.label_errors import find_label_errors, measure_thresholds


def draw(num_images: int, num_classes: int, share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities of a good classifier, labels of which a share was changed, and which."""
    generator = torch.Generator().manual_seed(num_classes)
    truth = torch.randint(0, num_classes, (num_images,), generator=generator)
    logits = 2 * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(num_images), truth] += 9
    is_changed = torch.rand(num_images, generator=generator) < share
    shift = torch.randint(1, num_classes, (num_images,), generator=generator)
    return logits.softmax(1), torch.where(is_changed, (truth + shift) % num_classes, truth), is_changed


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_suspects_are_those_of_cleanlab(num_classes):
    filters = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    probabilities, labels, _ = draw(2000, num_classes, 0.1)
    theirs = filters.find_label_issues(labels.numpy(), probabilities.numpy(), filter_by="confident_learning", n_jobs=1)
    ours = find_label_errors(probabilities, labels).is_suspect
    assert ours.nonzero().flatten().tolist() == theirs.nonzero()[0].tolist()
    assert 0 < ours.sum() < 400


def test_the_ranking_is_cleanlabs_self_confidence():
    rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is not installed")
    probabilities, labels, _ = draw(500, 5, 0.2)
    quality = torch.from_numpy(rank.get_self_confidence_for_each_label(labels.numpy(), probabilities.numpy()))
    ranking = find_label_errors(probabilities, labels).ranking
    assert quality[ranking].tolist() == sorted(quality.tolist())


def test_changed_labels_come_first():
    probabilities, labels, is_changed = draw(5000, 10, 0.01)
    errors = find_label_errors(probabilities, labels)
    first = errors.ranking[: int(is_changed.sum())]
    assert is_changed[first].double().mean() > 0.8
    found = first[is_changed[first]]
    assert (errors.suggested[found] != labels[found]).all()


def test_a_class_without_images_is_suggested_to_nobody():
    probabilities = torch.tensor([[0.5, 0.1, 0.4], [0.3, 0.2, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0])
    assert measure_thresholds(probabilities, labels).tolist() == pytest.approx([0.4, torch.inf, torch.inf])
    assert not find_label_errors(probabilities, labels).is_suspect.any()
