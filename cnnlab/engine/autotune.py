"""The fastest way to compute that is sound, found by timing real steps, where "auto" leaves it open.

It is the plain way (fp32, channels_last, direct convolutions, off) unless measuring pays: all of it may take MAX_SHARE
of what the run will, which a plain step tells, or LEAST seconds. A run under QUICK seconds is not measured. In one
under SHORT seconds a CPU is measured for its convolutions and the number of threads alone, since many threads on a
busy machine take several times as long as one. A precision whose matrix products and convolutions are slower than
those of fp32 is not stepped at all, nor are the least promising ways where there is no time for all. The others take
turns, on a CPU with PART images of a larger batch, where their number changes little in which way is the faster. One
is *sound* if the loss and the gradient of the first batch are close to those of fp32. One is taken if its fastest turn
beats the plain way's by more than MARGIN: turns are disturbed by what else the machine does, which only ever makes
them longer.

On a CUDA device the way that is found is tried as CUDA graphs too: a small network spends most of its time on launching
kernels, one by one. Compiling is tried last, and only where the time for measuring has room for COMPILING seconds.

On a CPU that others use too, many threads may lose more than they win on a free one. There one thread is tried in
long runs too, and the mean of the turns counts instead of the fastest, since disturbance is what is to be expected.
Where there is no time for that half of the threads are taken: of two runs at once on two cores each has one then.

What was found is kept for runs of the same network on the same machine, that of a shared CPU apart: see
`kept_ways.py`. Nothing else is left behind: weights, statistics, the optimizer and the random streams are put back.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from statistics import mean

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from cnnlab.distributed import by_main, largest, num_processes
from cnnlab.engine import kept_ways
from cnnlab.engine.compute import (
    FORMATS,
    PLAIN,
    Compile,
    Compute,
    Convolution,
    MemoryFormat,
    Precision,
    Threads,
    list_precisions,
)
from cnnlab.engine.hardest import choose_images
from cnnlab.engine.network import Network
from cnnlab.engine.peak import measure_speed
from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients, unchanged
from cnnlab.engine.timing import StepTimes, read_clock
from cnnlab.tasks import Labels
from cnnlab.threads import others_compute
from cnnlab.winograd import may_gain

SHARED = " shared"  # ends the key of what was found beside others
MAX_SHARE = 0.01  # of the run, for measuring
LEAST = 2.0  # seconds that measuring may take in any run that is measured
FIRST_STEPS = 2  # that tell how long the run will take
SHORT = 30.0  # seconds
SHORT_SHARE = 0.1  # of a run that is short, for measuring; LEAST at most
QUICK = 5.0  # seconds
COMPILING = 60.0  # seconds that compiling is expected to take
MARGIN = 0.05  # of the plain way's time
LARGE = 0.1  # seconds of a step that all threads of a free CPU share well: one alone is not tried
RECORDING = 12  # steps that finding a step's CUDA graph and its gradient takes
FASTEST_ON_CUDA: list[Precision] = ["bf16", "fp16", "tf32", "fp32"]
PART = 128  # images of a batch that a CPU is timed with
TURNS = range(2, 6)  # of each way: no fewer, no more
TURN = 0.05  # seconds, at least, that a turn is timed for
TOO_SLOW = 4  # times the plain way: there is no second turn
MIN_COSINE = 0.95  # between the gradient and that of fp32
RECORDED_COSINE = 0.9999  # between the gradient of a CUDA graph and that of the kernels one by one
MAX_RECORDED_MEMORY = 0.4  # of the device's, that steps may take which are recorded: a recording shares with nothing
MAX_LOSS_ERROR = 0.02  # of fp32's loss
HALVINGS = 20  # of the scale that float16 begins with, until no gradient overflows


class OutOfTime(Exception):
    """A way to compute that measuring has no time for."""


class Unsound(Exception):
    """A way to compute whose numbers are not those of the network."""


@dataclass(frozen=True)
class Tuning:
    """The way that was found, what was timed in images per second, and what there is to warn of."""

    compute: Compute
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def tune(
    training: Training,
    wanted: Compute,
    num_steps: int,
    micro_batch_size: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Tuning:
    """The way to compute a run of `num_steps`: as `wanted`, and by measurement where that is open.

    That it is measuring it says. A compiler that fails is done without. Nothing is applied in the end.
    """
    bench = Bench(training, micro_batch_size, say)
    tuning = bench.tune(wanted, num_steps)
    if tuning.compute.compile == "off" or wanted.compile == "auto":
        return tuning
    failure = bench.try_compiling(tuning.compute)
    if failure is None:
        return tuning
    return replace(tuning, compute=tuning.compute.uncompiled(), warnings=[*tuning.warnings, failure])


def list_ways(wanted: Compute, network: Network) -> list[Compute]:
    """What is worth measuring where something is open, the plain way first; none of it compiled."""
    device = network.device
    precisions: list[Precision] = list_precisions(device) if wanted.precision == "auto" else [wanted.precision]
    formats: list[MemoryFormat] = [wanted.memory_format]
    if wanted.memory_format == "auto":
        formats = ["channels_last", "contiguous"]
    threads: list[Threads] = [wanted.threads]
    if wanted.threads == "auto":
        threads = [None, 1] if device.type == "cpu" and torch.get_num_threads() > 1 else [None]
    convolutions: list[Convolution] = [wanted.convolution]
    if wanted.convolution == "auto":
        may_filter = device.type == "cpu" and wanted.compile in ("auto", "off") and may_gain(network.model)
        convolutions = ["direct", "winograd"] if may_filter else ["direct"]
    ways = [
        Compute(precision, memory_format, "off", number, convolution)
        for precision, memory_format, convolution, number in product(precisions, formats, convolutions, threads)
    ]
    return [way for way in ways if way.convolution != "winograd" or way.can_filter]


def list_worthwhile(ways: list[Compute], device: torch.device) -> list[Compute]:
    """The first, and after it, the fastest precisions first, those no slower than it in a product and a convolution."""
    plain, *others = ways
    precisions = {way.precision for way in ways}
    if precisions == {plain.precision}:
        return ways
    if device.type == "cuda":  # which has few slow ones, and takes longer to begin with each than a step does
        order = [(memory_format, precision) for memory_format in FORMATS for precision in FASTEST_ON_CUDA]
        return [plain, *sorted(others, key=lambda way: order.index((way.memory_format, way.precision)))]
    # The same in all processes, as what follows is.
    speeds = by_main(lambda: {precision: measure_speed(device, precision) for precision in sorted(precisions)})
    worthwhile = [way for way in others if speeds[way.precision] >= speeds[plain.precision]]
    return [plain, *sorted(worthwhile, key=lambda way: -speeds[way.precision])]


def count_turns(num_steps: float, num_timed: int) -> int:
    """How many a way can have that has time for `num_steps`: one to be compared with fp32, one to warm up each turn."""
    return min(TURNS[-1], int((num_steps - 1) / (num_timed + 1)))


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

    def __init__(
        self, training: Training, micro_batch_size: int | None, say: Callable[[str], None] = lambda text: None
    ):
        self._training = training
        self._micro_batch_size = micro_batch_size
        self._say = say
        self._begin = read_clock(training.device)
        self._budget = math.inf  # seconds from then on
        self._part: tuple[Tensor, Labels] | None = None  # of a batch, in the place of whole ones

    def seconds_left(self) -> float:
        """The same in all processes."""
        (taken,) = largest(read_clock(self._training.device) - self._begin)
        return self._budget - taken

    def tune(self, wanted: Compute, num_steps: int) -> Tuning:
        """What `tune` returns, before a compiler that is wanted is tried."""
        default = Tuning(wanted.fill(PLAIN))
        is_choice = wanted.compile == "auto" or len(list_ways(wanted, self._training.network)) > 1
        if not is_choice:
            return default
        if wanted.threads == "auto" and self.is_shared:
            default = Tuning(replace(default.compute, threads=self.fair_threads))
        if MAX_SHARE * num_steps < FIRST_STEPS * self.timed_share:
            return default
        key = self.describe(wanted)
        known = by_main(lambda: kept_ways.find(key) or kept_ways.find(key + SHARED))
        # FIRST_STEPS, of which the first warms up: nobody waits for more of a run that is over soon.
        plain = wanted.fill(PLAIN).uncompiled()
        with self.timing_part():
            step_seconds = known["step_seconds"] if known else self.time_steps(plain, 1) / self.timed_share
        seconds = step_seconds * num_steps
        if self.is_accelerated:
            self._begin = read_clock(self._training.device)  # what a GPU's first step takes longer any run would pay
        if seconds < QUICK:
            return default
        self._budget = max(LEAST, MAX_SHARE * seconds)
        if seconds < SHORT:
            self._budget = LEAST
            if not self.is_accelerated:
                self._budget = min(LEAST, SHORT_SHARE * seconds)
                short = replace(default.compute, threads=wanted.threads, convolution=wanted.convolution)
                wanted = self.narrow(short, step_seconds)
            if len(list_ways(wanted, self._training.network)) == 1 and not self.may_record(wanted):
                return Tuning(wanted.fill(PLAIN))
            key = self.describe(wanted)
        key += SHARED if self.is_shared else ""
        known = by_main(lambda: kept_ways.find(key))
        may_compile = wanted.compile == "auto" and self._budget > COMPILING and has_compiler(self._training.device)
        if known and known["may_compile"] == may_compile:
            return Tuning(Compute.from_dict(known["compute"]), known["timings"])
        self._say(f"measuring how to compute fastest, for {math.ceil(self._budget):,} s at most")
        tuning = self.measure(wanted, step_seconds, num_steps, may_compile)
        if not tuning.warnings:
            entry = {"step_seconds": step_seconds, "may_compile": may_compile, "compute": asdict(tuning.compute)}
            by_main(lambda: kept_ways.keep(key, {**entry, "timings": dict(tuning.timings)}))
        return tuning

    def measure(self, wanted: Compute, step_seconds: float, num_steps: int, may_compile: bool) -> Tuning:
        """The fastest way, found in the time that there is."""
        wanted = self.narrow(wanted, step_seconds)
        # What is compiled is chosen among what is not: else each way would have to be compiled.
        ways = list_worthwhile(list_ways(wanted, self._training.network), self._training.device)
        plain = ways[0]
        taken = step_seconds * self.timed_share
        num_timed = min(100, max(1, math.ceil(TURN / taken)))
        time_left = self.seconds_left() / (2 if self.may_record(wanted) else 1)
        num_turns = count_turns(time_left / taken / len(ways), num_timed)
        while num_turns < TURNS[0] and len(ways) > 2:
            ways.pop()  # the least promising, so that there is time for the others
            num_turns = count_turns(time_left / taken / len(ways), num_timed)
        timed: dict[Compute, float] = {}
        if len(ways) > 1 and num_turns >= TURNS[0]:
            with self.timing_part():
                turns = self.take_turns(ways, num_timed, num_turns)
            timed = {way: seconds / self.timed_share for way, seconds in turns.items()}
        best = pick(timed, plain) if timed else plain
        if wanted.threads == "auto" and self.is_shared and all(way.threads != 1 for way in timed):
            best = replace(best, threads=self.fair_threads)
        seconds = timed.get(best, step_seconds)
        failure = None
        if self.may_record(wanted):
            recorded = self.try_recording(best, num_timed, seconds)
            timed = {best: seconds, **timed, **recorded}
            best = pick(timed, best)
            seconds = timed[best]
        if may_compile and self.seconds_left() > COMPILING:
            compiled, failure = self.compile(best.uncompiled(), num_timed, num_steps, seconds)
            timed = {best: seconds, **timed, **compiled}
            best = pick(timed, best)
        timings = {str(way): round(self.num_images / taken, 1) for way, taken in timed.items()}
        if wanted.compile != "auto":
            best = replace(best, compile=wanted.compile)
        return Tuning(best, timings, [failure] if failure else [])

    def describe(self, wanted: Compute) -> str:
        """Under which key the way is kept that was found for equal wishes."""
        return kept_ways.describe(self._training, self._micro_batch_size, str(asdict(wanted)))

    @property
    def num_images(self) -> int:
        """Of a batch."""
        return min(self._training.train.batch_size, self._training.train.num_examples)

    @property
    def is_accelerated(self) -> bool:
        """Whether another device than the CPU computes, for which half as many bits may be several times as fast."""
        return self._training.device.type != "cpu"

    @cached_property
    def num_threads(self) -> int:
        """Of the process that has the most. The first time processes wait here for each other."""
        (number,) = largest(torch.get_num_threads())
        return int(number)

    @property
    def fair_threads(self) -> int:
        """How many a run takes of a CPU that is not its own, unless measuring finds better."""
        return max(1, self.num_threads // 2)

    @cached_property
    def is_shared(self) -> bool:
        """Whether others compute on the CPU at the same time, where that matters."""
        return self._training.device.type == "cpu" and self.num_threads > 1 and by_main(others_compute)

    def narrow(self, wanted: Compute, step_seconds: float) -> Compute:
        """`wanted` with its threads decided where one alone need not be, or cannot be, measured.

        On a free CPU that is where steps are large, on a shared one where two steps of one thread might not fit
        into the time that is left.
        """
        if wanted.threads != "auto":
            return wanted
        if self.is_shared:
            is_tried = 2 * self.num_threads * self.timed_share * step_seconds < self.seconds_left()
            return wanted if is_tried else replace(wanted, threads=self.fair_threads)
        return wanted if step_seconds <= LARGE else replace(wanted, threads=None)

    @property
    def timed_share(self) -> float:
        """How much of a batch is timed."""
        return 1.0 if self.is_accelerated else min(1.0, PART * num_processes() / self.num_images)

    @contextmanager
    def timing_part(self) -> Iterator[None]:
        """Steps inside are with the same share of the first batch; those of all of it go from batch to batch."""
        if self.timed_share < 1:
            images, labels = self._training.train.batch(0, 0)
            size = max(1, round(self.timed_share * len(labels)))
            self._part = images[:size], labels[:size]
        try:
            yield
        finally:
            self._part = None

    def _take_batch(self, step: int) -> tuple[Tensor, Labels]:
        return self._part or self._training.train.batch(0, step % len(self._training.train))

    def _set_up(self, compute: Compute) -> Training:
        """The training as it would be, its steps counted apart from the run's."""
        return replace(self._training.computed_as(compute), times=StepTimes(self._training.device))

    def summarise(self, turns: list[float]) -> float:
        """What counts of the seconds of some turns."""
        return mean(turns) if self.is_shared else min(turns)

    def take_turns(self, ways: list[Compute], num_timed: int, num_turns: int) -> dict[Compute, float]:
        """The seconds of a step of each sound way; the first is taken for sound."""
        turns = self.record_turns(ways, num_timed, num_turns)
        return {way: self.summarise(seconds) for way, seconds in turns.items()}

    def record_turns(self, ways: list[Compute], num_timed: int, num_turns: int) -> dict[Compute, list[float]]:
        """The same of each turn."""
        plain, *others = ways
        reference = self.first_gradient(replace(plain, precision="fp32"))
        try:
            turns = {plain: [self.time_steps(plain, num_timed)]}
        except OutOfTime:
            return {}
        too_slow = TOO_SLOW * turns[plain][0]
        for way in others:
            try:
                require_close(self.first_gradient(way), reference)
                turns[way] = [self.time_steps(way, num_timed, patience=too_slow)]
            except OutOfTime:
                break
            except (Unsound, RuntimeError):  # such as a layer that an autocast dtype has no kernel for
                continue
        running = [way for way, (first,) in turns.items() if first < too_slow]
        for _ in range(num_turns - 1):
            for way in running:
                if self.seconds_left() < (num_timed + 1) * min(turns[way]):
                    return turns
                try:
                    turns[way].append(self.time_steps(way, num_timed))
                except OutOfTime:  # something else computes meanwhile
                    return turns
        return turns

    def may_record(self, wanted: Compute) -> bool:
        """Whether CUDA graphs are among what is looked for."""
        alone = num_processes() == 1 and self._micro_batch_size is None
        return wanted.compile == "auto" and self._training.device.type == "cuda" and alone

    def try_recording(self, way: Compute, num_timed: int, seconds: float) -> dict[Compute, float]:
        """The seconds of a step as a CUDA graph, if it can be one and there is time to find out."""
        recorded = replace(way, compile="graphs")
        if self.seconds_left() < (RECORDING + num_timed) * seconds or not has_room(self._training.device):
            return {}
        try:
            # The same kernels: what differs more draws from chance, or decides, in Python, which is not recorded.
            require_close(self.first_gradient(recorded), self.first_gradient(way), RECORDED_COSINE)
            return {recorded: min(self.time_steps(recorded, num_timed) for _ in TURNS[:2])}
        except Exception:  # a network may do what cannot be recorded, such as wait for a number
            return {}

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
            compiled = replace(way, compile=mode, convolution="direct")
            begin = time.perf_counter()
            try:
                require_close(self.first_gradient(compiled), reference)
                (compiling,) = largest(time.perf_counter() - begin)
                taken = self.summarise([self.time_steps(compiled, num_timed) for _ in TURNS])
            except (Unsound, OutOfTime):
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
            return describe_failure(error, "recording CUDA graphs" if way.compile == "graphs" else "compiling")
        return None

    def time_steps(self, way: Compute, num_timed: int, patience: float = math.inf) -> float:
        """Seconds of a step, the mean of `num_timed` after one that warms up.

        If that one takes more than `patience`, its own seconds. Raises OutOfTime if there is no time for the others.
        """
        with unchanged(self._training):
            training = self._set_up(way)
            state = State(micro_batch_size=self._micro_batch_size)
            begin = read_clock(training.device)
            for step in range(1 + num_timed):
                if step == 1:
                    (first,) = largest(read_clock(training.device) - begin)
                    if first > patience:
                        return first
                    if self.seconds_left() < num_timed * first / 2:  # warming up takes longer
                        raise OutOfTime
                    begin = read_clock(training.device)
                state.step = step
                learned, _ = choose_images(training, *self._take_batch(step), state)
                learn = partial(compute_gradients, training, *learned, state)
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
                _, loss = compute_gradients(training, *self._take_batch(0), state)
                gradients = [p.grad.float().flatten() for p in training.model.parameters() if p.grad is not None]
                gradient = torch.cat(gradients)
                if training.scaler is None or gradient.isfinite().all():
                    break
                training.scaler.update(training.scaler.get_scale() / 2)
            return loss.item(), gradient


def has_room(device: torch.device) -> bool:
    """Whether a recording's memory is there beside that of evaluations and smaller batches."""
    if device.type != "cuda":
        return True
    _, total = torch.cuda.mem_get_info(device)
    return torch.cuda.max_memory_allocated(device) < MAX_RECORDED_MEMORY * total


def describe_failure(error: Exception, what: str = "compiling") -> str:
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{what} failed, and the run goes on without it ({type(error).__name__}: {reason})"


def require_close(
    found: tuple[float, Tensor], reference: tuple[float, Tensor], min_cosine: float | None = None
) -> None:
    """Raises Unsound if a loss or a gradient is not close to the reference, or no finite number."""
    (loss, gradient), (expected, direction) = found, reference
    cosine = torch.nn.functional.cosine_similarity(gradient, direction, dim=0).item()
    if not (
        abs(loss - expected) <= MAX_LOSS_ERROR * abs(expected) and cosine >= (min_cosine or MIN_COSINE)
    ):  # false for no number
        raise Unsound(f"loss {loss} for {expected}, gradients with cosine {cosine}")
