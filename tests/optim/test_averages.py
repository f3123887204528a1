"""Averages of the weights beside averages written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.optim import AVERAGES, OPTIMIZERS
from cnnlab.optim.averages import average_statistics
from cnnlab.optim.groups import build_optimizer
from tests.conftest import build_from, choose, small_config


class Source:
    """Four batches of 16 images an epoch, other ones in each."""

    def __len__(self) -> int:
        return 4

    def batch(self, epoch: int, number: int):
        generator = torch.Generator().manual_seed(10 * epoch + number)
        return torch.randn(16, 3, 8, 8, generator=generator) * (1 + epoch), None


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def build(model: nn.Module, **given):
    optimizer = torch.optim.SGD(model.parameters())
    return build_from(AVERAGES, given, model=model, optimizer=optimizer, num_steps=20, train=Source())


def walk(model: nn.Module, step: int) -> None:
    """Other weights and statistics in each step."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for value in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            value.add_(torch.rand(value.shape, generator=generator))
        model[1].num_batches_tracked += 1


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_ema_equals_a_slow_one():
    model = make_model()
    average = build(model, name="ema", decay=0.9)
    slow: dict[str, torch.Tensor] = {}
    for step in range(1, 21):
        walk(model, step)
        average.update(step)
        decay = min(0.9, step / (step + 9))
        for name, value in model.state_dict().items():
            before = slow.get(name, value.double())
            slow[name] = decay * before + (1 - decay) * value if value.is_floating_point() else value.clone()
    plain = snapshot(model)
    with average.averaged():
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value.double(), slow[name].double(), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())


def test_lookahead_equals_a_slow_one_and_the_steps_go_on_from_it():
    model = make_model()
    average = build(model, name="lookahead", every=4, decay=0.9)
    slow: dict[str, torch.Tensor] = {}
    for step in range(1, 19):
        walk(model, step)
        before = snapshot(model)
        average.update(step)
        if step % 4 == 0:
            keep = 0.9**4 * (step / 20) ** 3
            for name, value in before.items():
                kept = keep * slow.get(name, value).double() + (1 - keep) * value
                slow[name] = kept if value.is_floating_point() else value
                torch.testing.assert_close(model.state_dict()[name].double(), slow[name].double(), rtol=1e-5, atol=1e-6)
        else:
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with average.averaged():
        torch.testing.assert_close(model[0].weight.double(), slow["0.weight"], rtol=1e-5, atol=1e-6)
    assert torch.equal(model[0].weight, before["0.weight"])


def test_swa_is_the_mean_of_the_epochs_in_the_last_part_with_statistics_of_its_own():
    model = make_model()
    average = build(model, name="swa", start=0.5)
    ends = []
    for step in range(1, 21):
        walk(model, step)
        average.update(step)
        if step in (12, 16, 20):
            ends.append(snapshot(model))
        if step == 8:
            with average.averaged():
                assert torch.equal(model[0].weight, snapshot(model)["0.weight"])
    with average.averaged():
        for name, value in model.named_parameters():
            torch.testing.assert_close(value, sum(end[name] for end in ends) / 3)
        # Of all inputs of the batch normalisation over epoch 5 (number 4), as if they were one batch.
        with torch.no_grad():
            seen = torch.stack([model[0](Source().batch(4, number)[0]) for number in range(4)])
        torch.testing.assert_close(model[1].running_mean, seen.mean((0, 1, 3, 4)), rtol=1e-5, atol=1e-6)
        means = torch.stack([batch.var((0, 2, 3)) for batch in seen]).mean(0)
        torch.testing.assert_close(model[1].running_var, means, rtol=1e-5, atol=1e-6)
    assert torch.equal(model[1].running_mean, ends[-1]["1.running_mean"])


@pytest.mark.parametrize("given", [{"name": "ema", "decay": 0.8}, {"name": "swa", "start": 0.3}, {"name": "lookahead"}])
@pytest.mark.parametrize("stop", [2, 9, 13])
def test_a_restored_average_goes_on_as_if_it_had_not_stopped(given, stop):
    whole = make_model()
    average = build(whole, **given)
    for step in range(1, 21):
        if step == stop:
            with average.averaged():
                saved = copy.deepcopy({"model": whole.state_dict(), "average": average.state_dict()})
        walk(whole, step)
        average.update(step)

    again = make_model()
    restored = build(again, **given)
    again.load_state_dict(saved["model"])
    restored.load_state_dict(saved["average"])
    for step in range(stop, 21):
        walk(again, step)
        restored.update(step)
    for model, its_average in ((whole, average), (again, restored)):
        with its_average.averaged():
            model.kept = snapshot(model)
    assert all(torch.equal(value, again.kept[name]) for name, value in whole.kept.items())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_none_is_the_weights_as_they_are():
    model = make_model()
    average = build(model, name="none")
    for step in range(1, 21):
        walk(model, step)
        average.update(step)
    plain = snapshot(model)
    with average.averaged():
        assert average.state_dict() == {}
        assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())
    average.load_state_dict({})
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())


def test_none_leaves_it_to_an_optimizer_that_averages_itself():
    optimizer = build_optimizer(choose(OPTIMIZERS, "schedule_free_sgd"), make_model(), 8)
    assert build_from(AVERAGES, {"name": "none"}, optimizer=optimizer).averaged == optimizer.averaged


def test_an_optimizer_that_averages_wants_no_other_average(tmp_path):
    config = small_config(tmp_path, "optimizer=schedule_free_sgd", "average=ema")
    with pytest.raises(ConfigError, match="average: ema was given beside optimizer schedule_free_sgd"):
        assemble(config)


def test_statistics_count_each_batch_by_its_size():
    """Of batches of one and two images: the mean of what all of them are, not of the batches."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    model.train(False)
    images = torch.randn(129, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images[128] += 6
    average_statistics(model, images.split(128))
    torch.testing.assert_close(model[0].running_mean, images.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    assert model[0].momentum == 0.1 and not model.training
