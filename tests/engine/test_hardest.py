"""Learning from the hardest images alone, beside a loop that picks them one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnlab.engine.hardest import choose_images, find_hardest
from cnnlab.engine.loop import Plan, fit, restore, take_snapshot
from cnnlab.engine.state import State
from cnnlab.engine.step import Training
from cnnlab.optim import LOSSES
from cnnlab.optim.losses import build_loss, tasks_of
from cnnlab.stopping import StopRequest
from cnnlab.tasks import BINARY, MULTICLASS, MULTILABEL, REGRESSION, Mixed
from tests.conftest import choose
from tests.engine.test_loop import CPU, CROSS_ENTROPY, IMAGES, LABELS, Recorder, make, run, with_model

MIXED = Mixed(LABELS, LABELS.roll(-1), 0.3)
OUTPUTS = torch.randn(50, 5, generator=torch.Generator().manual_seed(1))
CASES = {
    MULTICLASS: (OUTPUTS, LABELS),
    BINARY: (OUTPUTS[:, :1], LABELS % 2),
    MULTILABEL: (OUTPUTS, (OUTPUTS.roll(1, 0) > 0).float()),
    REGRESSION: (OUTPUTS, OUTPUTS.roll(1, 0)),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_loss_of_each_image_is_that_of_a_batch_of_one(name):
    for task in tasks_of(name):
        outputs, labels = CASES[task]
        criterion = build_loss(choose(LOSSES, name), task, 5, CPU)
        alone = [criterion(outputs[n : n + 1], labels[n : n + 1]) for n in range(50)]
        torch.testing.assert_close(criterion.each(outputs, labels), torch.stack(alone))
        assert criterion.each(outputs[:0], labels[:0]).shape == (0,)


def test_the_loss_of_an_image_made_of_two_counts_both_whatever_their_weights():
    criterion = build_loss(choose(LOSSES, "cross_entropy", class_weights=(1, 2, 3, 4, 5)), MULTICLASS, 5, CPU)
    first, second = (CROSS_ENTROPY.each(OUTPUTS, labels) for labels in (MIXED.first, MIXED.second))
    torch.testing.assert_close(criterion.each(OUTPUTS, MIXED), 0.3 * first + 0.7 * second)


def test_the_hardest_are_told_in_the_order_of_the_batch():
    losses = torch.tensor([0.1, 3.0, 0.2, 2.0, 2.0, 2.0, 0.0])
    assert find_hardest(losses, 0.3).tolist() == [1, 3, 4]  # of 2.1 images: three, and of equals the first
    assert find_hardest(losses, 1.0).tolist() == list(range(7))
    assert find_hardest(losses.log() * float("nan"), 0.1).tolist() == [0, 1]


@pytest.mark.parametrize("size", [None, 1, 3])
def test_the_loop_equals_one_written_out(size):
    training, twin = replace(make(), learn_hardest=0.4), make()
    state, journal = State(micro_batch_size=size), Recorder()
    fit(training, Plan(9, 1, 9, "valid_accuracy"), state, journal, StopRequest())
    looked_at = []
    for step in range(9):
        images, labels = twin.train.batch(0, step % 7)
        losses = [CROSS_ENTROPY(twin.model(images[n : n + 1]), labels[n : n + 1]) for n in range(len(labels))]
        looked_at.append(torch.stack(losses).mean().item())
        hardest = sorted(range(len(labels)), key=lambda n: -losses[n].item())
        hardest = hardest[: max(2, -(-2 * len(labels) // 5))]
        twin.optimizer.zero_grad()
        CROSS_ENTROPY(twin.model(images[hardest]), labels[hardest]).backward()
        twin.optimizer.step()
    torch.testing.assert_close(training.model.state_dict(), twin.model.state_dict())
    # What is told is of all images: the mean since the last time, at every step.
    assert [means["loss"] for means in journal.means] == pytest.approx(looked_at, rel=1e-5)
    assert state.rows[0]["train_loss"] == pytest.approx((8 * sum(looked_at[:6]) + 2 * looked_at[6]) / 50, rel=1e-5)


def test_all_images_are_as_none_left_out():
    whole, chosen = make(), replace(make(), learn_hardest=1.0)
    for training in (whole, chosen):
        run(training, 14)
    for one, other in zip(whole.model.parameters(), chosen.model.parameters(), strict=True):
        assert torch.equal(one, other)


def with_layers_of_two_modes() -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 5))
    training = with_model(make(), model)
    training.optimizer.param_groups[0]["params"] = list(model.parameters())
    return replace(training, learn_hardest=0.5)


def test_looking_changes_neither_statistics_nor_modes_nor_random_streams():
    training = with_layers_of_two_modes()
    training.model.train()
    training.model[1].eval()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    stream = torch.get_rng_state()
    (images, labels), looked = choose_images(training, IMAGES, MIXED, State())
    assert len(images) == len(labels) == 25 and looked[1].shape == (50, 5)
    assert torch.equal(stream, torch.get_rng_state())
    assert [module.training for module in training.model] == [True, False, True, True, True]
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path):
    whole = with_layers_of_two_modes()
    state, _ = run(whole, 10)
    first, second = with_layers_of_two_modes(), with_layers_of_two_modes()
    begun, _ = run(first, 4)
    resumed = restore(second, tmp_path, take_snapshot(first, begun), begun.rows)
    fit(second, Plan(10, 5, 6, "valid_accuracy"), resumed, Recorder(), StopRequest())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert resumed.rows[-1]["train_accuracy"] == state.rows[-1]["train_accuracy"]


def test_two_are_the_least_that_is_learned_from():
    """Batch normalisation has no statistics of one."""
    assert [len(find_hardest(torch.rand(n), 0.01)) for n in (0, 1, 2, 50, 300)] == [0, 1, 2, 2, 3]
