from __future__ import annotations

import pytest
import torch

from cnnlab.engine import timing
from cnnlab.engine.peak import measure_bandwidth, measure_product_peak
from cnnlab.engine.timing import PARTS, StepTimes
from tests.engine.test_loop import make, run


def test_parts_add_up_and_what_is_between_steps_counts_nowhere(monkeypatch):
    readings = iter([0.0, 1.0, 3.0, 100.0, 101.0, 105.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(readings))
    times = StepTimes()
    for _ in range(2):
        times.begin()
        times.end("data")
        times.end("forward")
    assert times.read() == {"data": 2.0, "forward": 6.0, "backward": 0.0, "optimizer": 0.0}


def test_what_ends_before_a_step_was_begun_counts_nowhere():
    """As in steps that nobody times: those of a sweep of the rate."""
    times = StepTimes()
    times.end("forward")
    assert times.read() == dict.fromkeys(PARTS, 0.0)


def test_the_loop_marks_every_part():
    training = make()
    run(training, 3)
    seconds = training.times.read()
    assert tuple(seconds) == PARTS and all(taken > 0 for taken in seconds.values())


@pytest.mark.gpu
def test_a_device_measures_itself():
    times = StepTimes(torch.device("cuda"))
    times.begin()
    factor = torch.ones(4096, 4096, device="cuda")
    for _ in range(10):
        factor = factor @ factor
    times.end("forward")
    assert times.read()["forward"] > 1e-3


def test_the_machines_peak():
    device = torch.device("cpu")
    assert 1e8 < measure_product_peak(device, "fp32", 0.05) < 1e15
    assert measure_product_peak(device, "tf32") is None
    assert 1e8 < measure_bandwidth(device, 0.01) < 1e14
