"""A step in pieces, clipped, and out of memory, beside plain ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.engine.compute import PLAIN, Compute
from cnnlab.engine.loop import Plan, fit
from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients
from cnnlab.errors import MemoryShortage
from cnnlab.graphs import RecordedCalls
from cnnlab.optim import LOSSES
from cnnlab.optim.losses import build_loss
from cnnlab.stopping import StopRequest
from cnnlab.tasks import MULTICLASS, Labels, Mixed
from tests.conftest import choose
from tests.engine.test_loop import CPU, IMAGES, LABELS, Recorder, make, with_model


def gradients(
    training: Training, micro_batch_size: int | None, step: int = 0, labels: Labels = LABELS
) -> tuple[list[torch.Tensor], float]:
    state = State(step=step, micro_batch_size=micro_batch_size)
    outputs, loss = compute_gradients(training, IMAGES, labels, state)
    assert outputs.shape == (50, 5)
    return [p.grad for p in training.model.parameters()], loss.item()


@pytest.mark.parametrize("size", [1, 7, 25, 49, 50, 64])
@pytest.mark.parametrize("weights", [None, (1.0, 0.1, 5.0, 0.3, 2.0)])
@pytest.mark.parametrize("labels", [LABELS, Mixed(LABELS, LABELS.roll(-1), 0.3)], ids=["plain", "mixed"])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(size, weights, labels):
    chosen = choose(LOSSES, "cross_entropy", class_weights=weights)
    training = replace(make(), criterion=build_loss(chosen, MULTICLASS, 5, CPU))
    whole, whole_loss = gradients(training, None, labels=labels)
    whole = [grad.clone() for grad in whole]
    pieces, pieces_loss = gradients(training, size, labels=labels)
    assert pieces_loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("size", "sizes"), [(49, [25, 25]), (24, [16, 17, 17]), (7, [6, 6, 6, 6, 6, 6, 7, 7])])
def test_micro_batches_are_as_equal_as_can_be(size, sizes):
    training = make()
    seen = []
    training.model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    gradients(training, size)
    assert sorted(seen) == sizes


class Small(nn.Module):
    """Runs out of memory above `limit` images, as the graphics card's allocator or the CPU's does."""

    def __init__(self, limit: int, error: RuntimeError):
        super().__init__()
        self.linear = nn.Linear(48, 5)
        self.limit, self.error = limit, error
        self.sizes: list[int] = []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.limit:
            raise self.error
        return self.linear(images.flatten(1))


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:132] DefaultCPUAllocator: can't allocate memory: you tried ..."),
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_stays_so(error):
    roomy, tight = (with_model(make(), Small(limit, error)) for limit in (50, 8))
    tight.model.linear.load_state_dict(roomy.model.linear.state_dict())
    whole, _ = gradients(roomy, None)
    state = State()
    compute_gradients(tight, IMAGES, LABELS, state)
    assert tight.model.sizes == [50, 25, 12] + [6, 6, 6, 7] * 2
    assert state.micro_batch_size == 7
    torch.testing.assert_close([p.grad for p in tight.model.parameters()], whole)
    tight.model.sizes.clear()
    compute_gradients(tight, IMAGES[:20], LABELS[:20], state)
    assert tight.model.sizes == [6, 7, 7]


def test_where_memory_runs_out_a_recording_gives_back_its_own():
    tight = with_model(make(), Small(30, ERRORS[0]))
    tight = tight.computed_as(replace(PLAIN, compile="graphs"))
    roomy = with_model(make(), Small(50, ERRORS[0])).computed_as(replace(PLAIN, compile="graphs"))
    for training in (tight, roomy):
        compute_gradients(training, IMAGES, LABELS, State())
    assert tight.model._compiled_call_impl is None
    assert isinstance(roomy.model._compiled_call_impl, RecordedCalls)


@pytest.mark.parametrize("error", ERRORS)
def test_an_image_that_does_not_fit_alone_is_told_with_what_to_do(error):
    with pytest.raises(MemoryShortage, match="memory ran out with 1 images at once .*smaller dataset.image_size"):
        compute_gradients(with_model(make(), Small(0, error)), IMAGES, LABELS, State())
    whole = replace(with_model(make(), Small(8, error)), can_cut=False)
    with pytest.raises(MemoryShortage, match="with 50 images at once .*expected less to hold: a smaller batch_size"):
        compute_gradients(whole, IMAGES, LABELS, State())


def test_other_errors_come_through():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as caught:
        compute_gradients(with_model(make(), Small(0, error)), IMAGES, LABELS, State())
    assert caught.value is error


def test_the_loop_says_that_memory_ran_out_and_ends_as_if_it_had_not():
    tight, roomy = make(), make()
    tight = with_model(tight, Small(3, ERRORS[0]))
    tight.model.linear.load_state_dict(roomy.model[1].state_dict())
    for training in (tight, roomy):
        training.optimizer.param_groups[0]["params"] = list(training.model.parameters())
    journal, state = Recorder(), State()
    for training, recorder, where in ((tight, journal, state), (roomy, Recorder(), State())):
        fit(training, Plan(14, 5, 7, "valid_accuracy"), where, recorder, StopRequest())
    assert journal.said == ["memory ran out: batches are cut into micro-batches of 2 images"]
    assert state.as_dict()["micro_batch_size"] == 2
    torch.testing.assert_close(tight.model.linear.weight, roomy.model[1].weight)


def test_clipping_is_by_value_and_then_by_the_norm_of_all():
    plain, _ = gradients(make(), None)
    norm = torch.cat([grad.flatten() for grad in plain]).norm()
    limit = 0.1 * norm.item()
    by_norm, _ = gradients(replace(make(), clip_norm=limit), None)
    torch.testing.assert_close(by_norm, [grad * limit / (norm + 1e-6) for grad in plain])
    by_value, _ = gradients(replace(make(), clip_value=0.01), None)
    torch.testing.assert_close(by_value, [grad.clamp(-0.01, 0.01) for grad in plain])
    both, _ = gradients(replace(make(), clip_value=0.01, clip_norm=0.005), None)
    assert torch.cat([grad.flatten() for grad in both]).norm().item() == pytest.approx(0.005, rel=1e-3)
    untouched, _ = gradients(replace(make(), clip_norm=10 * norm.item()), None)
    assert all(torch.equal(one, other) for one, other in zip(untouched, plain, strict=True))


def test_dropout_depends_on_the_step_alone():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5))
    training = with_model(make(), model)
    training.optimizer.param_groups[0]["params"] = list(model.parameters())
    losses = [gradients(training, 8, step)[1] for step in (3, 4, 3)]
    assert losses[0] == losses[2] != losses[1]


def test_the_loss_is_float32_whatever_the_network_computes_in():
    training = make().computed_as(Compute("bf16", "contiguous", "off"))
    outputs, loss = compute_gradients(training, IMAGES, LABELS, State())
    assert outputs.dtype == loss.dtype == torch.float32
    exact = F.cross_entropy(make().model(IMAGES), LABELS)
    assert loss.item() != exact.item() and loss.item() == pytest.approx(exact.item(), rel=0.01)
