"""What `auto` becomes, with a clock of our own; that choosing leaves no trace; that precisions are what they say."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from cnnlab.engine import autotune, compute, kept_ways
from cnnlab.engine.autotune import Unsound, list_ways, list_worthwhile, pick, require_close, tune
from cnnlab.engine.compute import PLAIN, Compute, explain_missing
from cnnlab.engine.network import Network
from cnnlab.engine.peak import measure_speed
from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients, unchanged
from cnnlab.graphs import RecordedCalls
from cnnlab.optim.averages import PlainWeights
from cnnlab.optim.stepping import plain_step
from cnnlab.threads import unchanged_threads
from cnnlab.winograd import WinogradConvolutions
from tests.engine.test_loop import CPU, IMAGES, Source, make
from tests.runs.test_resume import assert_same

AUTO = Compute()
BF16, FP16 = replace(PLAIN, precision="bf16"), replace(PLAIN, precision="fp16")


@pytest.fixture(autouse=True)
def free_processor(monkeypatch):
    """Whatever else runs while these tests do."""
    monkeypatch.setattr(autotune, "others_compute", lambda: False)


class Clock:
    """Time that passes only in forward passes: so many seconds each, by what they are computed in."""

    def __init__(self, monkeypatch, seconds: dict[str, float]):
        self.now, self.num_passes = 0.0, 0
        self.seconds = seconds
        monkeypatch.setattr(autotune, "read_clock", lambda device: self.now)

    def attach(self, training: Training) -> None:
        training.model.register_forward_hook(self.tick)

    def tick(self, model: nn.Module, inputs, output) -> None:
        self.num_passes += 1
        precision = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        layout = "channels_last" if model[0].weight.is_contiguous(memory_format=torch.channels_last) else "contiguous"
        recorded = " graphs" if isinstance(model._compiled_call_impl, RecordedCalls) else ""
        self.now += self.seconds[f"{precision} {layout}{recorded}"]


def make_convolutional(wide: bool = False) -> Training:
    training = make()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(128, 5)
    )
    if wide:
        model.insert(1, nn.Sequential(nn.Conv2d(8, 256, 1), nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 8, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    images = IMAGES.contiguous(memory_format=torch.channels_last)  # as batches have them
    return replace(
        training,
        network=Network(model, CPU),
        optimizer=optimizer,
        plain_step=plain_step(optimizer),
        average=PlainWeights(optimizer),
        train=Source(images),
    )


def wide_convolution() -> nn.Module:
    return nn.Conv2d(256, 256, 3)


def choose_by(monkeypatch, seconds: dict[str, float], num_steps: int, **given: str):
    """The choice and the timings for these seconds a step, and the clock."""
    monkeypatch.setattr(autotune, "list_precisions", lambda device: ["fp32", "bf16"])
    monkeypatch.setattr(autotune, "measure_speed", lambda device, precision: SPEEDS[precision])
    training, clock = make_convolutional(), Clock(monkeypatch, seconds)
    clock.attach(training)
    tuning = tune(training, replace(AUTO.uncompiled(), **given), num_steps)
    return tuning.compute, tuning.timings, clock


SPEEDS = {"fp32": 1e11, "bf16": 2e11}  # multiply-adds a second
SECONDS = {"fp32 channels_last": 1.0, "fp32 contiguous": 1.5, "bf16 channels_last": 0.5, "bf16 contiguous": 0.75}


def test_the_fastest_is_taken_and_all_timings_are_told(monkeypatch):
    choice, timings, _ = choose_by(monkeypatch, SECONDS, 10_000)
    assert choice == BF16
    assert timings == {  # 8 images a batch
        "fp32, channels_last": 8.0, "fp32, contiguous": 5.3, "bf16, channels_last": 16.0, "bf16, contiguous": 10.7
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "expected"), [(0.97, PLAIN), (0.93, BF16)])
def test_a_small_lead_may_be_chance(monkeypatch, seconds, expected):
    assert (
        choose_by(monkeypatch, SECONDS | {"bf16 channels_last": seconds, "bf16 contiguous": 1.0}, 10_000)[0] == expected
    )


def test_what_is_given_stays(monkeypatch):
    choice, timings, _ = choose_by(monkeypatch, SECONDS, 10_000, precision="fp32")
    assert choice == PLAIN and set(timings) == {"fp32, channels_last", "fp32, contiguous"}
    choice, _, clock = choose_by(monkeypatch, SECONDS, 10_000, precision="bf16", memory_format="contiguous")
    assert choice == replace(BF16, memory_format="contiguous") and clock.num_passes == 0


@pytest.fixture
def two_threads():
    with unchanged_threads():
        torch.set_num_threads(2)
        yield


@pytest.mark.parametrize(("one", "chosen"), [(0.025, 1), (0.1, None)])
def test_one_thread_is_taken_where_it_is_faster(monkeypatch, two_threads, one, chosen):
    training, clock = make_convolutional(), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        clock.now += one if torch.get_num_threads() == 1 else 0.05

    training.model.register_forward_hook(tick)
    tuning = tune(training, replace(PLAIN, threads="auto"), 100_000)
    assert tuning.compute == replace(PLAIN, threads=chosen)
    assert tuning.timings["fp32, channels_last, threads: 1"] / tuning.timings["fp32, channels_last"] == 0.05 / one
    assert torch.get_num_threads() == 2  # until the run computes so
    training.computed_as(tuning.compute)
    assert torch.get_num_threads() == (chosen or 2)


@pytest.mark.parametrize(("num_steps", "chosen"), [(240, None), (260, 1), (1_400, 1)])  # of 0.02 s: 4.8, 5.2 and 28 s
def test_of_a_short_run_the_threads_alone_are_measured(monkeypatch, two_threads, num_steps, chosen):
    monkeypatch.setattr(autotune, "list_precisions", lambda device: ["fp32", "bf16"])
    training, clock = make_convolutional(), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        clock.num_passes += 1
        clock.now += (0.01 if torch.get_num_threads() == 1 else 0.02) / (2 if torch.is_autocast_enabled("cpu") else 1)

    training.model.register_forward_hook(tick)
    tuning = tune(training, AUTO, num_steps)
    assert tuning.compute == replace(PLAIN, threads=chosen)
    assert set(tuning.timings) == ({"fp32, channels_last", "fp32, channels_last, threads: 1"} if chosen else set())
    assert clock.now <= 2 * 0.02 + max(0.5, min(2, 0.1 * 0.02 * num_steps))
    clock.num_passes = 0
    assert tune(training, AUTO, num_steps) == tuning and clock.num_passes == 2  # to see how long the run will be


@pytest.mark.parametrize("is_shared", [False, True])
def test_one_thread_is_tried_for_large_steps_beside_others_alone(monkeypatch, two_threads, is_shared):
    monkeypatch.setattr(autotune, "others_compute", lambda: is_shared)
    training, clock = make_convolutional(), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        clock.now += 0.2 if torch.get_num_threads() == 1 else 0.3

    training.model.register_forward_hook(tick)
    tuning = tune(training, replace(PLAIN, memory_format="auto", threads="auto"), 100_000)
    assert tuning.compute.threads == (1 if is_shared else None) and len(tuning.timings) == (4 if is_shared else 2)


@pytest.mark.parametrize(("step_seconds", "num_steps"), [(0.3, 100), (0.3, 250), (0.3, 400), (0.01, 400)])
@pytest.mark.parametrize(("is_shared", "chosen"), [(False, None), (True, 1)])
def test_without_time_to_measure_half_of_the_threads_are_left_to_others(
    monkeypatch, two_threads, step_seconds, num_steps, is_shared, chosen
):
    """Of steps that take 0.3 s two turns of each way do not fit into two seconds; of 100 none is timed."""
    monkeypatch.setattr(autotune, "others_compute", lambda: is_shared)
    training, clock = make_convolutional(), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        clock.now += step_seconds

    training.model.register_forward_hook(tick)
    assert tune(training, replace(PLAIN, threads="auto"), num_steps).compute == replace(PLAIN, threads=chosen)


def test_one_thread_is_not_tried_where_its_steps_might_take_all_the_time(monkeypatch, two_threads):
    monkeypatch.setattr(autotune, "others_compute", lambda: True)
    for num_threads, is_tried in ((2, True), (64, False)):
        monkeypatch.setattr(autotune.Bench, "num_threads", num_threads)
        training, clock = make_convolutional(), Clock(monkeypatch, {})
        seen = set()

        def tick(model: nn.Module, inputs, output, clock=clock, seen=seen) -> None:
            clock.now += 0.3
            seen.add(torch.get_num_threads())

        training.model.register_forward_hook(tick)
        wanted = replace(PLAIN, threads="auto", memory_format="auto")
        tuning = tune(training, wanted, 10_000 + num_threads)  # 30 s for measuring; two steps of one thread may be 38
        assert (1 in seen) == is_tried and tuning.compute.threads == (None if is_tried else 32)
        kept_ways.find_file().unlink()


def test_threads_that_are_given_do_not_depend_on_who_else_computes(monkeypatch, two_threads):
    monkeypatch.setattr(autotune, "others_compute", lambda: pytest.fail("it has looked"))
    training, clock = make_convolutional(), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        clock.now += 0.01

    training.model.register_forward_hook(tick)
    assert tune(training, replace(AUTO, threads=None), 400).compute == PLAIN


def test_beside_others_the_mean_of_the_turns_counts(monkeypatch, two_threads):
    """All threads are the faster in one turn of five, in which nobody disturbs them."""
    for is_shared, chosen in ((False, None), (True, 1)):
        monkeypatch.setattr(autotune, "others_compute", lambda shared=is_shared: shared)
        training, clock = make_convolutional(), Clock(monkeypatch, {})

        def tick(model: nn.Module, inputs, output, clock=clock) -> None:
            clock.num_passes += 1
            undisturbed = clock.num_passes < 12
            clock.now += 0.05 if torch.get_num_threads() == 1 else 0.03 if undisturbed else 0.1

        training.model.register_forward_hook(tick)
        tuning = tune(training, replace(PLAIN, threads="auto"), 100_000)
        assert tuning.compute.threads == chosen


def test_a_machine_that_becomes_slow_meanwhile_ends_the_measuring(monkeypatch):
    training, clock = make_convolutional(), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        clock.num_passes += 1
        clock.now += 0.1 if clock.num_passes < 9 else 100.0  # in the second turn

    training.model.register_forward_hook(tick)
    tuning = tune(training, replace(PLAIN, memory_format="auto"), 1_000)
    assert tuning.compute == PLAIN and set(tuning.timings) == {"fp32, channels_last", "fp32, contiguous"}


@pytest.mark.parametrize(("part", "chosen"), [(1, BF16), (8, PLAIN)])  # of batches of 8
def test_a_processor_is_timed_with_a_part_of_a_large_batch(monkeypatch, part, chosen):
    """So that the fastest is found in a run of few steps, where whole ones would take too much of it."""
    monkeypatch.setattr(autotune, "PART", part)
    monkeypatch.setattr(autotune, "list_precisions", lambda device: ["fp32", "bf16"])
    monkeypatch.setattr(autotune, "measure_speed", lambda device, precision: SPEEDS[precision])
    training, clock = make_convolutional(), Clock(monkeypatch, {})
    sizes = []

    def tick(model: nn.Module, inputs, output) -> None:
        sizes.append(len(output))
        clock.now += len(output) / (16 if torch.is_autocast_enabled("cpu") else 8)

    training.model.register_forward_hook(tick)
    tuning = tune(training, replace(PLAIN, precision="auto"), 190)
    assert tuning.compute == chosen and set(sizes) <= {part}
    if chosen == BF16:
        assert tuning.timings == {"fp32, channels_last": 8.0, "bf16, channels_last": 16.0}  # images a second
        assert clock.now <= 0.01 * 190 + 2 * part / 8


def test_on_one_core_there_is_no_choice_of_threads():
    assert torch.get_num_threads() == 1
    assert list_ways(replace(PLAIN, threads="auto"), make().network) == [PLAIN]


def test_short_runs_are_not_measured(monkeypatch):
    """Not even by the two steps that tell how long a run is, where these are much of it."""
    for num_steps, num_passes in ((29, 0), (199, 0), (200, 2), (299, 2)):
        quick = {name: seconds / 10 for name, seconds in SECONDS.items()}
        choice, timings, clock = choose_by(monkeypatch, quick, num_steps)
        assert (choice, timings, clock.num_passes) == (PLAIN, {}, num_passes)


@pytest.fixture
def accelerated(monkeypatch):
    """The CPU as a device of which CUDA graphs could be recorded: they are computed as they are."""
    monkeypatch.setattr(autotune.Bench, "is_accelerated", True)
    monkeypatch.setattr(autotune.Bench, "may_record", lambda self, wanted: wanted.compile == "auto")
    monkeypatch.setattr(autotune, "has_compiler", lambda device: False)


ON_GPU = {name: seconds / 100 for name, seconds in SECONDS.items()}


@pytest.mark.parametrize(("recorded", "compiled"), [(0.002, "graphs"), (0.0049, "off")])
def test_a_gpu_finds_its_precision_and_its_graphs_in_short_runs_too(monkeypatch, accelerated, recorded, compiled):
    seconds = ON_GPU | {"bf16 channels_last graphs": recorded}
    choice, timings, clock = choose_by(monkeypatch, seconds, 1_000, compile="auto")
    assert choice == replace(BF16, compile=compiled)
    assert timings["bf16, channels_last, CUDA graphs"] == round(8 / recorded, 1)
    assert clock.now <= 2 + 0.02  # the first steps are no measuring: whatever a GPU needs to begin, the run needs too
    assert choose_by(monkeypatch, seconds, 400, compile="auto")[0] == PLAIN  # four seconds


def test_what_cannot_be_recorded_is_computed_without(monkeypatch, accelerated):
    class Waiting(RecordedCalls):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(compute, "RecordedCalls", Waiting)
    choice, timings, _ = choose_by(monkeypatch, ON_GPU, 1_000, compile="auto")
    assert choice == BF16 and "bf16, channels_last, CUDA graphs" not in timings


def test_what_draws_from_chance_in_python_is_not_recorded(monkeypatch, accelerated):
    """Its recording has other gradients than the calls one by one, though not by much."""

    class Coarse(RecordedCalls):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return super().__call__(images + 0.3 * torch.ones_like(images[:, :, :1, :1]))

    monkeypatch.setattr(compute, "RecordedCalls", Coarse)
    seconds = ON_GPU | {"bf16 channels_last graphs": 0.001}
    assert choose_by(monkeypatch, seconds, 1_000, compile="auto")[0] == BF16


def test_a_gpu_tries_first_what_is_most_often_the_fastest(monkeypatch):
    monkeypatch.setattr(autotune, "list_precisions", lambda device: ["fp32", "tf32", "bf16"])
    device = torch.device("cuda")
    ways = list_worthwhile(list_ways(AUTO, Network(wide_convolution(), device)), device)
    assert [(way.memory_format, way.precision) for way in ways] == [
        ("channels_last", "fp32"), ("channels_last", "bf16"), ("channels_last", "tf32"),
        ("contiguous", "bf16"), ("contiguous", "tf32"), ("contiguous", "fp32"),
    ]  # fmt: skip


def test_where_there_is_no_time_for_all_the_least_promising_are_left_out(monkeypatch):
    choice, timings, _ = choose_by(monkeypatch, SECONDS, 2_000)
    assert choice == BF16 and set(timings) == {"fp32, channels_last", "bf16, channels_last", "bf16, contiguous"}


@pytest.mark.parametrize("num_steps", [50, 500, 1_000, 2_000, 10_000])
def test_timing_keeps_to_its_share_of_the_run(monkeypatch, num_steps):
    slow = dict.fromkeys(SECONDS, 1.0)
    clock = choose_by(monkeypatch, slow, num_steps)[2]
    assert clock.now <= max(2, 0.01 * num_steps)
    assert (clock.num_passes > 2) == (num_steps >= 2_000)


@pytest.mark.parametrize("bf16", [30.0, 10_000.0])
def test_a_way_far_slower_than_the_plain_one_is_left_after_two_steps(monkeypatch, bf16):
    seconds = SECONDS | {"bf16 channels_last": bf16, "bf16 contiguous": bf16}
    choice, timings, clock = choose_by(monkeypatch, seconds, 10_000)
    assert choice == PLAIN and timings["fp32, channels_last"] == 8.0
    assert clock.now <= 100 + 4 * bf16


def test_a_precision_with_slow_products_is_not_stepped(monkeypatch):
    monkeypatch.setitem(SPEEDS, "bf16", 1e9)
    choice, timings, _ = choose_by(monkeypatch, SECONDS, 10_000)
    assert choice == PLAIN and set(timings) == {"fp32, channels_last", "fp32, contiguous"}


def test_what_was_found_is_used_again_for_equal_runs_alone(monkeypatch):
    choice, timings, clock = choose_by(monkeypatch, SECONDS, 10_000)
    assert clock.num_passes > 0
    again, told, clock = choose_by(monkeypatch, SECONDS, 20_000)
    assert (again, told, clock.num_passes) == (choice, timings, 0)
    assert choose_by(monkeypatch, SECONDS, 20)[0] == PLAIN  # too short a run to measure
    assert choose_by(monkeypatch, SECONDS, 10_000, memory_format="contiguous")[2].num_passes > 0
    (kept,) = kept_ways.find_file().parent.iterdir()
    assert len(json.loads(kept.read_text())) == 2
    for damage in ("{", "[]", '{"x": 1}'):
        kept.write_text(damage)
        assert choose_by(monkeypatch, SECONDS, 10_000)[2].num_passes > 0


def test_what_was_found_on_a_free_processor_is_not_used_beside_others(monkeypatch, two_threads):
    for is_shared in (False, True):
        monkeypatch.setattr(autotune, "others_compute", lambda shared=is_shared: shared)
        assert choose_by(monkeypatch, SECONDS, 10_000)[2].num_passes > 0
        assert choose_by(monkeypatch, SECONDS, 10_000)[2].num_passes == 0


def test_without_a_place_to_keep_it_is_measured_each_time(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        choice, _, clock = choose_by(monkeypatch, SECONDS, 10_000)
        assert choice == BF16 and clock.num_passes > 0


def test_that_it_is_measuring_is_said_first(monkeypatch):
    said = []
    training, clock = make_convolutional(), Clock(monkeypatch, SECONDS)
    clock.attach(training)
    for _ in range(2):
        tune(training, replace(PLAIN, memory_format="auto"), 10_000, say=said.append)
    assert said == ["measuring how to compute fastest, for 100 s at most"]


def test_speeds_are_told_in_the_time_that_is_given():
    begin = time.perf_counter()
    assert measure_speed(CPU, "fp32", 0.02) > 1e7
    assert time.perf_counter() - begin < 1


def test_a_gradient_in_another_direction_is_unsound():
    loss, gradient = 2.0, torch.tensor([1.0, 0.0])
    require_close((2.01, torch.tensor([1.0, 0.1])), (loss, gradient))
    for found in (
        (2.1, gradient),
        (2.0, torch.tensor([1.0, 0.5])),
        (float("nan"), gradient),
        (2.0, torch.tensor([float("inf"), 0.0])),
    ):
        with pytest.raises(Unsound):
            require_close(found, (loss, gradient))


def test_an_unsound_way_is_not_chosen_however_fast(monkeypatch):
    monkeypatch.setattr(autotune, "MIN_COSINE", 1.1)
    choice, timings, _ = choose_by(monkeypatch, SECONDS, 10_000)
    assert choice == PLAIN and set(timings) == {"fp32, channels_last"}


def test_equal_ways_leave_the_plain_one():
    assert pick({PLAIN: 1.0, BF16: 1.0}, PLAIN) == PLAIN


def test_choosing_leaves_no_trace(monkeypatch):
    """Weights, running statistics, the optimizer's state, gradients, modes, strides, random streams."""
    monkeypatch.setattr(autotune, "list_precisions", lambda device: ["fp32", "bf16"])
    training, untouched = make_convolutional(), make_convolutional()
    strides = [p.stride() for p in training.model.parameters()]
    training.model.eval()
    torch.manual_seed(5)
    Clock(monkeypatch, SECONDS).attach(training)
    tune(training, AUTO.uncompiled(), 10_000)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert_same(dict(training.model.state_dict()), dict(untouched.model.state_dict()))
    assert_same(training.optimizer.state_dict(), untouched.optimizer.state_dict())
    assert [p.stride() for p in training.model.parameters()] == strides
    assert all(p.grad is None for p in training.model.parameters()) and not training.model.training


def test_what_fails_inside_is_undone_as_well():
    training, untouched = make(), make()
    with pytest.raises(ZeroDivisionError), unchanged(training):
        training.model[1].weight.data.zero_()
        raise ZeroDivisionError
    assert_same(dict(training.model.state_dict()), dict(untouched.model.state_dict()))


# --- Precisions ---------------------------------------------------------------------------------------------


def take_steps(training: Training, num_steps: int) -> list[float]:
    state, losses = State(), []
    for step in range(num_steps):
        state.step = step
        learn = partial(compute_gradients, training, *training.train.batch(0, step % 7), state)
        losses.append(learn()[1].item())
        training.take_step(learn)
    return losses


def test_bf16_learns_as_fp32_does_with_weights_in_float32():
    plain, training = make_convolutional(), make_convolutional()
    training.model[3].p = plain.model[3].p = 0.0
    low = training.computed_as(BF16)
    expected, losses = take_steps(plain, 30), take_steps(low, 30)
    assert losses != expected
    assert losses == pytest.approx(expected, rel=0.1)
    assert all(p.dtype == torch.float32 for p in low.model.parameters())


def test_fp16_leaves_out_steps_that_overflow_and_lowers_its_scale():
    training = make().computed_as(FP16)
    assert training.scaler is not None
    before = training.model[1].weight.clone()
    images, labels = training.train.batch(0, 0)
    learn = partial(compute_gradients, training, images, labels, State())
    training.scaler.scale(torch.zeros(()))  # makes the scale
    training.scaler.update(2.0**126)
    learn()
    training.take_step(learn)
    assert torch.equal(training.model[1].weight, before)
    assert training.scaler.get_scale() == 2.0**125


def test_fp16_clips_what_the_gradients_are_without_their_scale():
    training = replace(make().computed_as(FP16), clip_norm=0.01)
    images, labels = training.train.batch(0, 0)
    compute_gradients(training, images, labels, State())
    norm = nn.utils.get_total_norm(p.grad for p in training.model.parameters())
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_explaining_what_a_device_does_not_have():
    assert "tf32 was given" in explain_missing("tf32", CPU)
    assert "fp16 was given" in explain_missing("fp16", torch.device("mps"))
    assert explain_missing("bf16", CPU) is None and explain_missing("auto", CPU) is None


def test_the_plain_way_is_the_first_of_the_combinations():
    network = make().network
    assert list_ways(AUTO, network)[0] == PLAIN
    assert list_ways(BF16, network) == [BF16]


@pytest.mark.parametrize(("num_steps", "others"), [(250, 0), (10_000, 3)])  # of 0.1 s: a short run and a long one
@pytest.mark.parametrize(("seconds", "chosen"), [(0.05, "winograd"), (0.097, "direct")])
def test_fewer_products_are_taken_where_they_are_faster(monkeypatch, num_steps, others, seconds, chosen):
    monkeypatch.setattr(autotune, "list_precisions", lambda device: ["fp32", "bf16"])
    monkeypatch.setattr(autotune, "measure_speed", lambda device, precision: 1.0)
    training, clock = make_convolutional(wide=True), Clock(monkeypatch, {})

    def tick(model: nn.Module, inputs, output) -> None:
        modes = map(type, torch.overrides._get_current_function_mode_stack())
        clock.now += seconds if WinogradConvolutions in modes else 0.1

    training.model.register_forward_hook(tick)
    tuning = tune(training, AUTO.uncompiled(), num_steps)
    assert tuning.compute == replace(PLAIN, convolution=chosen)
    assert len(tuning.timings) == 2 + others and "fp32, channels_last, Winograd" in tuning.timings


def test_fewer_products_are_measured_where_a_network_can_have_them():
    """On a CPU, in fp32 and channels_last, without a compiler."""
    network = Network(wide_convolution(), CPU)
    fewer = replace(PLAIN, convolution="winograd")
    wanted = replace(PLAIN, memory_format="auto", convolution="auto")
    assert list_ways(wanted, network) == [PLAIN, fewer, replace(PLAIN, memory_format="contiguous")]
    assert fewer not in list_ways(replace(wanted, compile="default"), network)
    assert fewer not in list_ways(wanted, make().network)
    assert [way for way in list_ways(AUTO, network) if way.convolution == "winograd"] == [fewer]


def test_networks_that_take_turns_compute_each_in_its_own_numbers():
    """Flags of the device are set for each pass: two loaded runs predict as each of them does alone."""
    network = Network(nn.Linear(64, 64), CPU)
    images = torch.randn(32, 64)
    fine, coarse = network(images), replace(network, compute=BF16)(images)
    assert not torch.equal(fine, coarse) and coarse.dtype == torch.float32
    assert torch.equal(network(images), fine) and torch.equal(replace(network, compute=BF16)(images), coarse)


def test_the_way_to_compute_is_filled_with_what_was_decided():
    decided = Compute("bf16", "contiguous", "off", None)
    assert Compute(memory_format="channels_last").fill(decided) == Compute("bf16", "channels_last", "off", None)
    assert Compute.from_dict({"precision": "tf32", "timings": {}}) == Compute("tf32", convolution="direct")
    assert Compute.from_dict(None) == AUTO
    fewer = replace(PLAIN, convolution="winograd")
    assert AUTO.fill(fewer) == fewer
    assert Compute(precision="bf16").fill(fewer) == BF16  # who asks for other numbers gets them


# --- Compiling ------------------------------------------------------------------------------------------------


def break_compiler(monkeypatch) -> None:
    def refuse(self, *arguments, **options):
        self._compiled_call_impl = refuse_call

    def refuse_call(*arguments):
        raise OSError("no compiler\nand much more")

    monkeypatch.setattr(nn.Module, "compile", refuse)


def test_a_compiler_that_fails_is_told_in_a_line_and_the_network_goes_on_without(monkeypatch):
    break_compiler(monkeypatch)
    training = make()
    tuning = tune(training, replace(PLAIN, compile="default"), 10)
    assert tuning.warnings == ["compiling failed, and the run goes on without it (OSError: no compiler)"]
    assert tuning.compute == PLAIN
    training.computed_as(tuning.compute).model(Source().batch(0, 0)[0])


@pytest.mark.parametrize(("num_steps", "compiled"), [(1_000, False), (10_000, True)])
def test_compiling_is_tried_in_runs_long_enough_to_earn_it_back(monkeypatch, num_steps, compiled):
    monkeypatch.setattr(autotune, "has_compiler", lambda device: True)
    training, clock = make_convolutional(), Clock(monkeypatch, dict.fromkeys(SECONDS, 1.0))
    clock.attach(training)

    def compile_to_half(model: nn.Module, mode: str, dynamic: bool) -> None:
        def call(images):
            outputs = model._call_impl(images)
            clock.now -= 0.5
            return outputs

        model._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compile_to_half)
    tuning = tune(training, replace(PLAIN, compile="auto"), num_steps)
    assert tuning.compute == (replace(PLAIN, compile="default") if compiled else PLAIN)
    assert ("fp32, channels_last, compiled (default)" in tuning.timings) == compiled


@pytest.mark.slow
def test_a_compiled_network_keeps_its_names_and_its_numbers():
    plain, training = make_convolutional(), make_convolutional()
    training.model[3].p = plain.model[3].p = 0.0
    compiled = training.computed_as(replace(PLAIN, compile="default"))
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    assert take_steps(compiled, 8) == pytest.approx(take_steps(plain, 8), rel=1e-4)
