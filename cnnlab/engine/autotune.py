"""The fastest way to compute that is sound, found by timing real steps, where "auto" leaves it open.

It is the plain way (fp32, channels_last, off) unless measuring pays: the timing may take MAX_SHARE of what the
run will, which a plain step tells, and a run under SHORT seconds is never measured. Then every way takes turns with
the others. One is *sound* if the loss and the gradient of the first batch are close to those of fp32. One is taken
if its fastest turn beats the plain way's by more than MARGIN: turns are disturbed by what else the machine does,
which only ever makes them longer. Compiling is tried last, and only in runs of LONG seconds.

Nothing of it is left behind: weights, statistics, the optimizer and the random streams are put back.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from cnnlab.distributed import largest
from cnnlab.engine.compute import PLAIN, Compile, Compute, MemoryFormat, Precision, list_precisions
from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients, unchanged
from cnnlab.engine.timing import StepTimes, read_clock

MAX_SHARE = 0.02  # of the run, for measuring
FIRST_STEPS = 2  # that tell how long the run will take
SHORT = 30.0  # seconds
LONG = 1200.0  # seconds: a minute of compiling is a twentieth of it
MARGIN = 0.05  # of the plain way's time
TURNS = range(2, 6)  # of each way: no fewer, no more
TURN = 0.05  # seconds, at least, that a turn is timed for
TOO_SLOW = 4  # times the plain way: there is no second turn
MIN_COSINE = 0.95  # between the gradient and that of fp32
MAX_LOSS_ERROR = 0.02  # of fp32's loss
HALVINGS = 20  # of the scale that float16 begins with, until no gradient overflows


class Unsound(Exception):
    """A way to compute whose numbers are not those of the network."""


@dataclass(frozen=True)
class Tuning:
    """The way that was found, what was timed in images per second, and what there is to warn of."""

    compute: Compute
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def tune(training: Training, wanted: Compute, num_steps: int, micro_batch_size: int | None = None) -> Tuning:
    """The way to compute a run of `num_steps`: as `wanted`, and by measurement where that is open.

    A compiler that fails is done without. Nothing is applied in the end.
    """
    bench = Bench(training, micro_batch_size)
    tuning = bench.tune(wanted, num_steps)
    if tuning.compute.compile == "off" or wanted.compile == "auto":
        return tuning
    failure = bench.try_compiling(tuning.compute)
    if failure is None:
        return tuning
    return replace(tuning, compute=tuning.compute.uncompiled(), warnings=[*tuning.warnings, failure])


def list_ways(wanted: Compute, device: torch.device) -> list[Compute]:
    """What is worth measuring where something is open, the plain way first; none of it compiled."""
    precisions: list[Precision] = list_precisions(device) if wanted.precision == "auto" else [wanted.precision]
    formats: list[MemoryFormat] = [wanted.memory_format]
    if wanted.memory_format == "auto":
        formats = ["channels_last", "contiguous"]
    return [Compute(precision, memory_format, "off") for precision, memory_format in product(precisions, formats)]


def pick(seconds: Mapping[Compute, float], plain: Compute) -> Compute:
    """The fastest, if it is faster than `plain` by more than what chance does."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < (1 - MARGIN) * seconds[plain] else plain


def has_compiler(device: torch.device) -> bool:
    """Whether what torch.compile writes can be translated for the device."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return device.type == "cpu" and any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


class Bench:
    """Steps of a training that are taken for the clock, and undone."""

    def __init__(self, training: Training, micro_batch_size: int | None):
        self._training = training
        self._micro_batch_size = micro_batch_size

    def tune(self, wanted: Compute, num_steps: int) -> Tuning:
        """What `tune` returns, before a compiler that is wanted is tried."""
        default = Tuning(wanted.fill(PLAIN))
        if not wanted.is_open or MAX_SHARE * num_steps < FIRST_STEPS:
            return default
        # What is compiled is chosen among what is not: else each way would have to be compiled.
        plain = default.compute.uncompiled()
        # FIRST_STEPS, of which the first warms up: nobody waits for more of a run that is over soon.
        step_seconds = self.time_steps(plain, 1)
        if step_seconds * num_steps < SHORT:
            return default
        ways = list_ways(wanted, self._training.device)
        num_timed = min(100, max(1, math.ceil(TURN / step_seconds)))
        # Each way takes one step to be compared with fp32, and each of its turns one more to warm up.
        num_turns = min(TURNS[-1], int((MAX_SHARE * num_steps / len(ways) - 1) / (num_timed + 1)))
        fastest: dict[Compute, float] = {}
        if len(ways) > 1 and num_turns >= TURNS[0]:
            fastest = self.take_turns(ways, num_timed, num_turns)
        best = pick(fastest, plain) if fastest else plain
        seconds = fastest.get(best, step_seconds)
        failure = None
        if wanted.compile == "auto" and seconds * num_steps > LONG and has_compiler(self._training.device):
            compiled, failure = self.compile(best, num_timed, num_steps, seconds)
            fastest = {best: seconds, **fastest, **compiled}
            best = pick(fastest, best)
        images = min(self._training.train.batch_size, self._training.train.num_examples)
        timings = {str(way): round(images / taken, 1) for way, taken in fastest.items()}
        if wanted.compile != "auto":
            best = replace(best, compile=wanted.compile)
        return Tuning(best, timings, [failure] if failure else [])

    def _set_up(self, compute: Compute) -> Training:
        """The training as it would be, its steps counted apart from the run's."""
        return replace(self._training.computed_as(compute), times=StepTimes(self._training.device))

    def take_turns(self, ways: list[Compute], num_timed: int, num_turns: int) -> dict[Compute, float]:
        """The seconds of a step in the fastest turn of each sound way; the first is taken for sound."""
        plain, *others = ways
        reference = self.first_gradient(replace(plain, precision="fp32"))
        fastest = {plain: self.time_steps(plain, num_timed)}
        for way in others:
            try:
                require_close(self.first_gradient(way), reference)
                fastest[way] = self.time_steps(way, num_timed)
            except (Unsound, RuntimeError):  # such as a layer that an autocast dtype has no kernel for
                continue
        running = [way for way, seconds in fastest.items() if seconds < TOO_SLOW * fastest[plain]]
        for _ in range(num_turns - 1):
            for way in running:
                fastest[way] = min(fastest[way], self.time_steps(way, num_timed))
        return fastest

    def compile(
        self, way: Compute, num_timed: int, num_steps: int, seconds: float
    ) -> tuple[dict[Compute, float], str | None]:
        """The same for `way` compiled, if it saves what compiling took; and what went wrong."""
        torch.compiler.reset()  # it compiles a function so many times and no more
        found: dict[Compute, float] = {}
        modes: list[Compile] = ["default", "reduce-overhead"] if self._training.device.type == "cuda" else ["default"]
        if self._micro_batch_size is not None:
            modes = modes[:1]
        reference = self.first_gradient(replace(way, precision="fp32"))
        for mode in modes:
            compiled = replace(way, compile=mode)
            begin = time.perf_counter()
            try:
                require_close(self.first_gradient(compiled), reference)
                (compiling,) = largest(time.perf_counter() - begin)
                taken = min(self.time_steps(compiled, num_timed) for _ in TURNS)
            except Unsound:
                continue
            except Exception as error:  # a compiler may fail in any way
                return found, describe_failure(error)
            if taken * num_steps + compiling < seconds * num_steps:
                found[compiled] = taken
        return found, None

    def try_compiling(self, way: Compute) -> str | None:
        """Compile for the first batch; returns what went wrong, in a line, or None."""
        torch.compiler.reset()
        try:
            self.first_gradient(way)
        except Exception as error:
            return describe_failure(error)
        return None

    def time_steps(self, way: Compute, num_timed: int) -> float:
        """Seconds of a step, the mean of `num_timed` after one that warms up."""
        with unchanged(self._training):
            training = self._set_up(way)
            state = State(micro_batch_size=self._micro_batch_size)
            for step in range(1 + num_timed):
                if step == 1:
                    begin = read_clock(training.device)
                state.step = step
                batch = training.train.batch(0, step % len(training.train))
                learn = partial(compute_gradients, training, *batch, state)
                learn()
                training.take_step(learn)
            (seconds,) = largest(read_clock(training.device) - begin)  # the same in all processes, as what follows is
            return seconds / num_timed

    def first_gradient(self, way: Compute) -> tuple[float, Tensor]:
        """The first batch's loss, and its gradient as one vector in float32, without dropout."""
        with unchanged(self._training):
            training = self._set_up(way)
            for module in training.model.modules():
                if isinstance(module, _DropoutNd):  # other numbers are drawn for other types
                    module.eval()
            state = State(micro_batch_size=self._micro_batch_size)
            for _ in range(HALVINGS):
                _, loss = compute_gradients(training, *training.train.batch(0, 0), state)
                gradients = [p.grad.float().flatten() for p in training.model.parameters() if p.grad is not None]
                gradient = torch.cat(gradients)
                if training.scaler is None or gradient.isfinite().all():
                    break
                training.scaler.update(training.scaler.get_scale() / 2)
            return loss.item(), gradient


def describe_failure(error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"compiling failed, and the run goes on without it ({type(error).__name__}: {reason})"


def require_close(found: tuple[float, Tensor], reference: tuple[float, Tensor]) -> None:
    """Raises Unsound if a loss or a gradient is not close to the reference, or no finite number."""
    (loss, gradient), (expected, direction) = found, reference
    cosine = torch.nn.functional.cosine_similarity(gradient, direction, dim=0).item()
    if not (abs(loss - expected) <= MAX_LOSS_ERROR * abs(expected) and cosine >= MIN_COSINE):  # false for no number
        raise Unsound(f"loss {loss} for {expected}, gradients with cosine {cosine}")
