"""A process that trains the same small runs over and over and kills them with SIGKILL: see test_resume.py.

    python -m tests.runs.killing FOLDER NUM_KILLS

torch is imported once; each run, killed or resumed, is a process forked from here before any tensor
has been computed. The moments are drawn from a seed: see `draw_kills`. Writes FOLDER/kills.json: for each kill
the run's directory, that of the run that was never killed, the moment and how far it was.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from cnnlab.config import Config
from cnnlab.models import MODELS
from cnnlab.runs import training
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from tests.conftest import only_run, small_config

# Everything that resuming could get wrong: dropout, augmentation, mixing, an optimizer with state, a schedule, an
# average of the weights, micro-batches, epochs with a smaller last batch, checkpoints in the middle of epochs.
OVERRIDES = [
    "model.name=dropout_net",
    "augment=flip_crop_cutout",
    "augment.cutout.size=3",
    "+augment.mixup.alpha=0.4",
    "+augment.cutmix.alpha=1.0",
    "optimizer=adam",
    "optimizer.lr=0.01",
    "optimizer.clip_norm=1",
    "schedule=cosine",
    "average=ema",
    "epochs=4",
    "batch_size=100",
    "engine.threads=1",
    "engine.micro_batch_size=40",
    "engine.checkpoint_every=3 steps",
]

CONFIGS = {"single": OVERRIDES, "folds": [*OVERRIDES, "folds=2", "epochs=2"]}


@MODELS.register
def dropout_net(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(8 * image_size**2, num_classes),
    )


def fork(task) -> int:
    """Run `task` in a child process; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
            task()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return child


def wait(child: int) -> int:
    return os.waitpid(child, 0)[1]


RUNS = "*/[!.]*"  # what is made aside is hidden
CALLS = ("fsync", "replace", "rename")  # of os, between which the files on the disk change


class Kill(NamedTuple):
    """When a run dies: before the n-th of these calls, or when a share of its time is over."""

    config: str  # which of CONFIGS
    call: str | None
    position: float  # from 0, the beginning, to 1, the end: of the calls, or of the time


def draw_kills(num: int, seed: int = 0) -> Iterator[Kill]:
    """Half of them at a call, and some of these at the first: then the directory is not there yet."""
    rng = random.Random(seed)
    for number in range(num):
        call = rng.choice(CALLS) if number % 2 else None
        position = 0.0 if number % 16 == 1 else rng.random()
        yield Kill("folds" if number % 4 >= 2 else "single", call, position)


@contextmanager
def counted_calls(act: Callable[[str, int], None]) -> Iterator[None]:
    """Inside, `act` is told of each of CALLS and its number, from 0, before it is carried out."""
    functions = {call: getattr(os, call) for call in CALLS}
    numbers = {call: itertools.count() for call in CALLS}

    def wrap(call: str) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            act(call, next(numbers[call]))
            return functions[call](*arguments)

        return counted

    for call in CALLS:
        setattr(os, call, wrap(call))
    try:
        yield
    finally:
        for call, function in functions.items():
            setattr(os, call, function)


def start_counted(config: Config, path: Path) -> None:
    """Train, and write down how often each of CALLS was made."""
    numbers = dict.fromkeys(CALLS, 0)
    with counted_calls(lambda call, number: numbers.update({call: number + 1})):
        start(config, [])
    path.write_text(json.dumps(numbers))


def start_and_die(config: Config, call: str, fatal: int) -> None:
    def die(name: str, number: int) -> None:
        if (name, number) == (call, fatal):
            os.kill(os.getpid(), signal.SIGKILL)

    with counted_calls(die):
        start(config, [])


def main(folder: Path, num_kills: int) -> None:
    training.draw_pictures = lambda *arguments: None  # nothing here looks at pictures
    kills = list(draw_kills(num_kills))
    wholes, seconds, num_calls = {}, {}, {}
    for name, overrides in CONFIGS.items():
        config = small_config(folder / name, *overrides)
        begin = time.perf_counter()
        assert wait(fork(lambda config=config, name=name: start_counted(config, folder / f"{name}.json"))) == 0
        seconds[name] = time.perf_counter() - begin
        num_calls[name] = json.loads((folder / f"{name}.json").read_text())
        wholes[name] = str(only_run(folder / name))
    report = []
    for number, kill in enumerate(kills):
        home = folder / str(number)
        config = small_config(home, *CONFIGS[kill.config])
        if kill.call is not None:
            fatal = int(kill.position * num_calls[kill.config][kill.call])
            moment = f"before {kill.call} number {fatal}"
            child = fork(lambda config=config, kill=kill, fatal=fatal: start_and_die(config, kill.call, fatal))
        else:
            delay = kill.position * seconds[kill.config]
            moment = f"after {delay:.3f} of {seconds[kill.config]:.3f} s"
            child = fork(lambda config=config: start(config, []))
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        wait(child)
        has_begun = bool(list(home.glob(RUNS)))
        if not has_begun:  # before it had a directory: there is nothing to go on with
            assert wait(fork(lambda config=config: start(config, []))) == 0, moment
        (path,) = home.glob(RUNS)
        run = RunDirectory(path)
        status = run.read_json(run.summary)["status"] if has_begun else None
        partial = sorted(path.name for path in run.path.rglob(".*.partial"))
        tables = [RunDirectory(path.parent).read_metrics() for path in run.path.rglob("metrics.csv") if has_begun]
        assert wait(fork(lambda run=run: resume(str(run.path), []))) == 0, f"resuming failed: {moment}"
        report.append(
            {
                "run": str(run),
                "whole": wholes[kill.config],
                "moment": moment,
                "epochs": sum(map(len, tables)),
                "status": status,
            }
            | {"partial": partial}
        )
    (folder / "kills.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
