"""Losses against slow ones written out from their definitions, and the tasks that each fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.errors import ConfigError
from cnnlab.optim import LOSSES
from cnnlab.optim.losses import balance, build_loss, tasks_of
from cnnlab.tasks import BINARY, MULTICLASS, MULTILABEL, REGRESSION, TASKS, mix_labels
from tests.conftest import choose

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
LOGITS, CLASSES = torch.randn(7, 5, generator=GENERATOR) * 3, torch.arange(7) % 5
LOGIT, OUTCOMES = torch.randn(7, 1, generator=GENERATOR) * 3, torch.tensor([0, 1, 1, 0, 1, 0, 0])
NUMBERS, TARGETS = torch.randn(7, 2, generator=GENERATOR), torch.randn(7, 2, generator=GENERATOR)
LABEL_SETS = (torch.rand(7, 5, generator=GENERATOR) < 0.4).float()
WEIGHTS = [0.5, 1.0, 2.0, 0.0, 3.0]


def make(name: str, **arguments):
    plain = choose(LOSSES, name)
    chosen = replace(plain, arguments={**plain.arguments, **arguments})  # also a weight of 0, which YAML may not have
    return build_loss(chosen, tasks_of(name)[0], 5, CPU)


def p_of_class() -> Tensor:
    return LOGITS.double().softmax(1)[torch.arange(7), CLASSES]


def p_of_outcome() -> Tensor:
    p = 1 / (1 + torch.exp(-LOGIT.double()[:, 0]))
    return torch.where(OUTCOMES == 1, p, 1 - p)


def close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == ()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-7)


def test_cross_entropy_with_smoothing_is_the_mixture_of_both_targets():
    log_p = LOGITS.double().log_softmax(1)
    expected = -(0.9 * log_p[torch.arange(7), CLASSES] + 0.1 * log_p.mean(1)).mean()
    close(make("cross_entropy", label_smoothing=0.1)(LOGITS, CLASSES), expected)


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_class_weights_make_a_weighted_mean(name):
    weights = torch.tensor(WEIGHTS).double()[CLASSES]
    expected = (-weights * p_of_class().log()).sum() / weights.sum()
    outputs = LOGITS if name == "cross_entropy" else LOGITS.log_softmax(1)
    close(make(name, class_weights=WEIGHTS)(outputs, CLASSES), expected)
    close(make(name)(outputs, CLASSES), -p_of_class().log().mean())


def test_nll_per_pixel_is_the_mean_over_all_pixels():
    log_p = torch.randn(2, 3, 4, 5, generator=GENERATOR).log_softmax(1)  # (N, classes, H, W)
    labels = torch.randint(0, 3, (2, 4, 5), generator=GENERATOR)
    by_hand = [-log_p[n, labels[n, i, j], i, j] for n in range(2) for i in range(4) for j in range(5)]
    close(make("nll")(log_p, labels), torch.stack(by_hand).double().mean())


def test_bce_counts_the_ones_as_often_as_asked():
    weights = torch.where(OUTCOMES == 1, 3.0, 1.0).double()
    loss = make("bce_with_logits", pos_weight=3.0)(LOGIT, OUTCOMES)
    close(loss, -(weights * p_of_outcome().log()).mean())
    torchs = F.binary_cross_entropy_with_logits(LOGIT[:, 0], OUTCOMES.float(), pos_weight=torch.tensor(3.0))
    torch.testing.assert_close(loss, torchs)


@pytest.mark.parametrize("pos_weight", [1.0, 3.0, "auto"])
def test_bce_of_several_labels_is_torchs_mean_over_them(pos_weight):
    counts = torch.stack([7 - LABEL_SETS.sum(0), LABEL_SETS.sum(0)])
    weight = counts[0] / counts[1].clamp(min=1) if pos_weight == "auto" else torch.tensor(pos_weight)
    expected = F.binary_cross_entropy_with_logits(LOGITS, LABEL_SETS, pos_weight=weight)
    loss = build_loss(choose(LOSSES, "bce_with_logits", pos_weight=pos_weight), MULTILABEL, 5, CPU, counts)
    torch.testing.assert_close(loss(LOGITS, LABEL_SETS), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_looks_away_from_what_is_predicted_well(gamma):
    for outputs, labels, p in ((LOGITS, CLASSES, p_of_class()), (LOGIT, OUTCOMES, p_of_outcome())):
        close(make("focal", gamma=gamma)(outputs, labels), -((1 - p) ** gamma * p.log()).mean())


def test_focal_has_finite_slopes_where_a_prediction_is_certain():
    outputs = torch.tensor([[100.0, 0.0]], requires_grad=True)
    make("focal", gamma=0.5)(outputs, torch.tensor([0])).backward()
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("epsilon", [-0.5, 0.0, 2.0])
def test_poly_adds_the_first_term_of_the_expansion(epsilon):
    for outputs, labels, p in ((LOGITS, CLASSES, p_of_class()), (LOGIT, OUTCOMES, p_of_outcome())):
        close(make("poly", epsilon=epsilon)(outputs, labels), (-p.log() + epsilon * (1 - p)).mean())


def test_losses_of_numbers():
    error = (NUMBERS - TARGETS).double()
    close(make("mse")(NUMBERS, TARGETS), error.square().mean())
    close(make("l1")(NUMBERS, TARGETS), error.abs().mean())
    smooth = torch.where(error.abs() < 0.5, error.square() / (2 * 0.5), error.abs() - 0.5 / 2)
    close(make("smooth_l1", beta=0.5)(NUMBERS, TARGETS), smooth.mean())


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_works_for_the_tasks_it_says_and_is_refused_for_others(name):
    given = {
        MULTICLASS: (LOGITS, CLASSES),
        BINARY: (LOGIT, OUTCOMES),
        MULTILABEL: (LOGITS, LABEL_SETS),
        REGRESSION: (NUMBERS, TARGETS),
    }
    assert set(given) == set(TASKS.values())
    for task in given:
        if task in tasks_of(name):
            outputs, labels = given[task]
            outputs = outputs.clone().requires_grad_()
            build_loss(choose(LOSSES, name), task, 5, CPU)(outputs, labels).backward()
            assert outputs.grad.abs().sum() > 0
        else:
            with pytest.raises(ConfigError, match=f"loss: {name} is for .*the dataset's task is {task}; expected one"):
                build_loss(choose(LOSSES, name), task, 5, CPU)


def test_a_weight_for_each_class_is_needed():
    with pytest.raises(ConfigError, match="loss.class_weights: 2 were given; expected one for each of 5 classes"):
        make("cross_entropy", class_weights=[1.0, 2.0])


# --- Weights from the training images -----------------------------------------------------------------------

COUNTS = torch.tensor([40, 10, 25, 20, 5])


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_automatic_weights_are_images_over_classes_times_images_of_the_class(name):
    given = choose(LOSSES, name, class_weights="auto")
    outputs = LOGITS.log_softmax(1)
    expected = make(name, class_weights=[100 / (5 * n) for n in COUNTS.tolist()])(outputs, CLASSES)
    close(build_loss(given, MULTICLASS, 5, CPU, COUNTS)(outputs, CLASSES), expected.double())
    # Before images are read all classes count alike.
    close(build_loss(given, MULTICLASS, 5, CPU)(outputs, CLASSES), make(name)(outputs, CLASSES).double())


def test_an_automatic_weight_of_the_second_class_makes_both_count_as_much():
    given = choose(LOSSES, "bce_with_logits", pos_weight="auto")
    loss = build_loss(given, BINARY, 2, CPU, torch.tensor([30, 10]))
    close(loss(LOGIT, OUTCOMES), make("bce_with_logits", pos_weight=3.0)(LOGIT, OUTCOMES).double())
    close(build_loss(given, BINARY, 2, CPU)(LOGIT, OUTCOMES), make("bce_with_logits")(LOGIT, OUTCOMES).double())


@pytest.mark.parametrize("pos_weight", [1.0, 9.0])
def test_bce_of_two_mixed_outcomes_is_the_same_as_of_mixed_labels(pos_weight):
    """And torch's, whose weight counts by how much of an image is of class 1."""
    mixed = mix_labels(OUTCOMES, OUTCOMES.roll(-1), 0.3)
    as_labels = mix_labels(OUTCOMES.float()[:, None], OUTCOMES.roll(-1).float()[:, None], 0.3)
    binary = make("bce_with_logits", pos_weight=pos_weight)
    several = build_loss(choose(LOSSES, "bce_with_logits", pos_weight=pos_weight), MULTILABEL, 1, CPU)
    share = 0.3 * OUTCOMES + 0.7 * OUTCOMES.roll(-1)
    expected = F.binary_cross_entropy_with_logits(LOGIT[:, 0], share, pos_weight=torch.tensor(pos_weight)).double()
    close(binary(LOGIT, mixed), expected)
    close(several(LOGIT, as_labels), expected)


def test_a_class_without_images_counts_as_an_average_one():
    assert balance(torch.tensor([300, 100, 0, 200])).tolist() == pytest.approx([2 / 3, 2.0, 1.0, 1.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_each_image_the_weight_of_its_class_counts_as_in_a_batch_of_one(smoothing):
    criterion = make("cross_entropy", class_weights=WEIGHTS, label_smoothing=smoothing)
    has_weight = torch.tensor(WEIGHTS)[CLASSES] > 0
    alone = torch.stack([criterion(LOGITS[n : n + 1], CLASSES[n : n + 1]) for n in range(7)])
    each = criterion.each(LOGITS, CLASSES)
    torch.testing.assert_close(each[has_weight], alone[has_weight])
    assert each.isfinite().all()
