"""Precision, memory format and compiler: as given, or the fastest of what is sound, found by timing real steps.

`auto` is the plain way (fp32, channels_last, off) unless measuring pays: the timing may take MAX_SHARE of what the
run will, which a plain step tells, and a run under SHORT seconds is never measured. Then every combination takes
turns with the others. One is *sound* if the loss and the gradient of the first batch are close to those of fp32.
One is chosen if its fastest turn beats the plain way's by more than MARGIN: turns are disturbed by what else the
machine does, which only ever makes them longer. Compiling is tried last, and only in runs of LONG seconds.

Nothing of it is left behind: weights, statistics, the optimizer and the random streams are put back.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import LBFGS

from cnnlab.distributed import largest
from cnnlab.engine.precision import list_precisions, read_clock, scaled_step, set_precision
from cnnlab.engine.state import State
from cnnlab.engine.step import Training, compute_gradients, unchanged
from cnnlab.engine.timing import StepTimes

MAX_SHARE = 0.02  # of the run, for measuring
LOOK = 2  # steps that tell how long the run will take
SHORT = 30.0  # seconds
LONG = 1200.0  # seconds: a minute of compiling is a twentieth of it
MARGIN = 0.05  # of the plain way's time
TURNS = range(2, 6)  # of each combination: no fewer, no more
TURN = 0.05  # seconds, at least, that a turn is timed for
TOO_SLOW = 4  # times the plain way: there is no second turn
MIN_COSINE = 0.95  # between the gradient and that of fp32
MAX_LOSS_ERROR = 0.02  # of fp32's loss
HALVINGS = 20  # of the scale that float16 begins with, until no gradient overflows


@dataclass(frozen=True)
class Choice:
    """How steps are computed."""

    precision: str = "fp32"
    memory_format: str = "channels_last"
    compile: str = "off"

    def __str__(self) -> str:
        compiled = "" if self.compile == "off" else f", compiled ({self.compile})"
        return f"{self.precision}, {self.memory_format}{compiled}"


PLAIN = Choice()
KEYS = tuple(asdict(PLAIN))  # of the configuration's engine
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Unsound(Exception):
    """A combination whose numbers are not those of the network."""


def plain_choice(given: Mapping[str, str]) -> Choice:
    """What is given, and the plain way where that is "auto"."""
    return Choice(**{key: getattr(PLAIN, key) if given[key] == "auto" else given[key] for key in KEYS})


def recall(given: Mapping[str, str], chosen: Mapping[str, str]) -> dict[str, str]:
    """What is given of KEYS, and what was `chosen` before, if it was, where that is "auto"."""
    return {key: chosen.get(key, given[key]) if given[key] == "auto" else given[key] for key in KEYS}


def list_choices(given: Mapping[str, str], device: torch.device) -> list[Choice]:
    """The combinations worth measuring where something is "auto", the plain one first; none of them compiled."""
    options = {"precision": list_precisions(device), "memory_format": ["channels_last", "contiguous"]}
    lists = [options[key] if given[key] == "auto" else [given[key]] for key in options]
    compiled = plain_choice(given).compile
    return [Choice(precision, memory_format, compiled) for precision, memory_format in product(*lists)]


def apply_choice(training: Training, choice: Choice) -> Training:
    """The same training, computed as `choice` says. Images are to come in that memory format as well."""
    model, optimizer = training.model, training.optimizer
    if not isinstance(optimizer, LBFGS):  # which keeps its weights as one vector
        model.to(memory_format=FORMATS[choice.memory_format])
    model._compiled_call_impl = None
    if choice.compile != "off":
        compile_in_place(model, choice.compile)
    changed = replace(training, autocast=set_precision(choice.precision, training.device))
    if choice.precision == "fp16":
        scaler = GradScaler(training.device.type)
        changed = replace(changed, scaler=scaler, take_step=scaled_step(optimizer, scaler))
    return changed


def compile_in_place(model: nn.Module, mode: str) -> None:
    """Let the model's calls be compiled, on the first one; names in its state_dict stay."""
    # Recorded CUDA graphs are what reduce-overhead is for; the others keep to buffers that nothing overwrites.
    model.compile(mode="max-autotune-no-cudagraphs" if mode == "max-autotune" else mode)


def has_compiler(device: torch.device) -> bool:
    """Whether what torch.compile writes can be translated for the device."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return device.type == "cpu" and any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


# --- Measuring ----------------------------------------------------------------------------------------


def choose(
    training: Training,
    apply: Callable[[Choice], Training],
    given: Mapping[str, str],
    num_steps: int,
    micro_batch_size: int | None = None,
) -> tuple[Choice, dict[str, float], list[str]]:
    """The choice for a run of `num_steps`; what was timed, in images per second; and what there is to warn of.

    `apply` is `apply_choice`, for all that has to change with it. Nothing is applied in the end.
    """
    plain = plain_choice(given)
    choices = list_choices(given, training.device)
    if "auto" not in given.values() or MAX_SHARE * num_steps < LOOK:
        return plain, {}, []
    bench = Bench(training, apply, micro_batch_size)
    # LOOK steps, of which the first warms up: of a run that is over soon nobody waits for more.
    step_seconds = bench.time_steps(plain, 1)
    if step_seconds * num_steps < SHORT:
        return plain, {}, []

    num_timed = min(100, max(1, math.ceil(TURN / step_seconds)))
    # Each combination takes one step to be looked at, and each of its turns one more to warm up.
    num_turns = min(TURNS[-1], int((MAX_SHARE * num_steps / len(choices) - 1) / (num_timed + 1)))
    fastest: dict[Choice, float] = {}
    if len(choices) > 1 and num_turns >= TURNS[0]:
        fastest = bench.take_turns(choices, num_timed, num_turns)
    best = pick(fastest, plain) if fastest else plain
    seconds = fastest.get(best, step_seconds)
    warnings = []
    if given["compile"] == "auto" and seconds * num_steps > LONG and has_compiler(training.device):
        compiled, problem = bench.compile(best, num_timed, num_steps, seconds)
        fastest = {best: seconds, **fastest, **compiled}
        warnings += [problem] if problem else []
        best = pick(fastest, best)
    images = min(training.train.batch_size, training.train.num_examples)
    return best, {str(choice): round(images / seconds, 1) for choice, seconds in fastest.items()}, warnings


def pick(seconds: Mapping[Choice, float], plain: Choice) -> Choice:
    """The fastest, if it is faster than `plain` by more than what chance does."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < (1 - MARGIN) * seconds[plain] else plain


class Bench:
    """Steps of a training that are taken for the clock, and undone."""

    def __init__(self, training: Training, apply: Callable[[Choice], Training], micro_batch_size: int | None):
        self._training = training
        self._apply = apply
        self._micro_batch_size = micro_batch_size

    def _set_up(self, choice: Choice) -> Training:
        """The training as it would be, its steps counted apart from the run's."""
        return replace(self._apply(choice), times=StepTimes(self._training.device))

    def take_turns(self, choices: list[Choice], num_timed: int, num_turns: int) -> dict[Choice, float]:
        """The seconds of a step in the fastest turn of each sound combination; the first is taken for sound."""
        plain, *others = choices
        reference = self.look(replace(plain, precision="fp32"))
        fastest = {plain: self.time_steps(plain, num_timed)}
        for choice in others:
            try:
                require_close(self.look(choice), reference)
                fastest[choice] = self.time_steps(choice, num_timed)
            except (Unsound, RuntimeError):  # such as a layer that an autocast dtype has no kernel for
                continue
        running = [choice for choice, seconds in fastest.items() if seconds < TOO_SLOW * fastest[plain]]
        for _ in range(num_turns - 1):
            for choice in running:
                fastest[choice] = min(fastest[choice], self.time_steps(choice, num_timed))
        return fastest

    def compile(
        self, choice: Choice, num_timed: int, num_steps: int, seconds: float
    ) -> tuple[dict[Choice, float], str | None]:
        """The same for `choice` compiled, if it saves what compiling took; and what went wrong."""
        found: dict[Choice, float] = {}
        modes = ["default", "reduce-overhead"] if self._training.device.type == "cuda" else ["default"]
        if self._micro_batch_size is not None:
            modes = modes[:1]
        reference = self.look(replace(choice, precision="fp32"))
        for mode in modes:
            compiled = replace(choice, compile=mode)
            begin = time.perf_counter()
            try:
                require_close(self.look(compiled), reference)
                (compiling,) = largest(time.perf_counter() - begin)
                taken = min(self.time_steps(compiled, num_timed) for _ in TURNS)
            except Unsound:
                continue
            except Exception as error:  # a compiler may fail in any way
                return found, describe_failure(error)
            if taken * num_steps + compiling < seconds * num_steps:
                found[compiled] = taken
        return found, None

    def time_steps(self, choice: Choice, num_timed: int) -> float:
        """Seconds of a step, the mean of `num_timed` after one that warms up."""
        with unchanged(self._training):
            training = self._set_up(choice)
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

    def look(self, choice: Choice) -> tuple[float, Tensor]:
        """The first batch's loss, and its gradient as one vector in float32, without dropout."""
        with unchanged(self._training):
            training = self._set_up(choice)
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


def try_compiled(training: Training, apply: Callable[[Choice], Training], choice: Choice) -> str | None:
    """Compile for the first batch; returns what went wrong, in a line, or None."""
    try:
        Bench(training, apply, None).look(choice)
    except Exception as error:
        return describe_failure(error)
    return None


def describe_failure(error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"compiling failed, and the run goes on without it ({type(error).__name__}: {reason})"


def require_close(found: tuple[float, Tensor], reference: tuple[float, Tensor]) -> None:
    """Raises Unsound if a loss or a gradient is not close to the reference, or no finite number."""
    (loss, gradient), (expected, direction) = found, reference
    cosine = torch.nn.functional.cosine_similarity(gradient, direction, dim=0).item()
    if not (abs(loss - expected) <= MAX_LOSS_ERROR * abs(expected) and cosine >= MIN_COSINE):  # false for no number
        raise Unsound(f"loss {loss} for {expected}, gradients with cosine {cosine}")
