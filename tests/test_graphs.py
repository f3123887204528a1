"""When steps are recorded, and when they are computed as without; that the numbers are the same needs a CUDA device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from cnnlab import graphs
from cnnlab.device import start_device
from cnnlab.engine.compute import PLAIN, Compute


@pytest.fixture
def recorded(monkeypatch) -> list[int]:
    """The numbers of images that were recorded for, by a stand-in that overwrites what it gave before."""
    sizes: list[int] = []

    def make_graphed_callables(module: nn.Module, arguments: tuple[Tensor, ...], allow_unused_input: bool):
        assert not torch.is_autocast_cache_enabled()
        module(*arguments)  # warms up: statistics and random streams move
        sizes.append(len(arguments[0]))
        held = module(*arguments).detach()

        def play(images: Tensor) -> Tensor:
            assert len(images) == sizes[-1]
            outputs = module(images)
            held.copy_(outputs.detach())
            return outputs + (held - outputs.detach())

        return play

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(graphs, "can_record", lambda images: torch.is_grad_enabled())
    return sizes


def make_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 2))
    Compute("fp32", "channels_last", "graphs", None).prepare(model)
    return model


def step(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of those parameters that learn."""
    for parameter in model.parameters():
        parameter.grad = None
    outputs = model(images)
    outputs.sum().backward()
    return [outputs.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def test_each_size_and_way_is_recorded_once(recorded):
    model, images = make_model(), torch.randn(8, 1, 8, 8)
    for _ in range(3):
        step(model, images)
        step(model, images[:5])  # the last batch of an epoch
    assert recorded == [8]
    model[0].weight.requires_grad_(False)
    step(model, images)
    step(model, images)
    model[1].eval()
    step(model, images)
    assert recorded == [8, 8, 8]
    step(model, torch.randn(9, 1, 8, 8))
    model[4].weight.data = model[4].weight.data.clone()  # it lies elsewhere
    step(model, torch.randn(9, 1, 8, 8))
    assert recorded == [8, 8, 8, 9, 9]


def test_evaluations_and_gradients_that_add_up_are_not_recorded(recorded):
    model, images = make_model(), torch.randn(8, 1, 8, 8)
    model.eval()
    model(images)
    model.train()
    with torch.no_grad():
        model(images)
    assert recorded == []
    model(images).sum().backward()
    model(images).sum().backward()  # a second micro-batch
    assert recorded == [8]


def test_recording_leaves_statistics_and_random_streams_as_they_are(recorded):
    images = torch.randn(8, 1, 8, 8)
    model, plain = make_model(), make_model()
    PLAIN.prepare(plain)
    for _ in range(2):
        for one in (model, plain):
            torch.manual_seed(1)
            one.found = step(one, images)
        for ours, theirs in zip(model.found, plain.found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert recorded == [8]
    assert list(model.state_dict()) == list(plain.state_dict())


def test_outputs_outlast_the_next_call(recorded):
    model, images = make_model(), torch.randn(8, 1, 8, 8)
    first = step(model, images)[0]
    kept = first.clone()
    step(model, 2 * images)
    assert torch.equal(first, kept)


def test_what_lies_on_another_gpu_is_not_recorded(monkeypatch):
    """Its kernels would run while the recording of the current one stays empty."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    there = [SimpleNamespace(is_cuda=True, get_device=lambda number=number: number) for number in (0, 1)]
    assert [graphs.lies_here(tensor) for tensor in there] == [True, False]
    assert not graphs.lies_here(torch.zeros(1))


def test_a_gpu_that_is_named_becomes_the_current_one(monkeypatch):
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    start_device("cuda:1")
    start_device("cuda")
    assert current == [torch.device("cuda:1")]
