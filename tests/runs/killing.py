"""A process that trains the same small run over and over and kills it with SIGKILL: see test_resume.py.

    python -m tests.runs.killing FOLDER NUM_KILLS

torch is imported once; each run, killed or resumed, is a process forked from here before any tensor
has been computed. Writes FOLDER/kills.json with the directory of the run that was never killed and,
for each kill, the run's directory, the moment and how far it was.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from cnnlab.models import MODELS
from cnnlab.runs import training
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from tests.conftest import small_config

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


def die_inside(call: str, number: int) -> None:
    """Arrange that this process kills itself right before the `number`-th call of os.fsync or os.replace."""
    function = getattr(os, call)
    calls = 0

    def counted(*arguments):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    setattr(os, call, counted)


def main(folder: Path, num_kills: int) -> None:
    training.draw_pictures = lambda *arguments: None  # nothing here looks at pictures
    config = {}
    for name in ["whole", *map(str, range(num_kills))]:
        config[name] = small_config(folder / name, *OVERRIDES)

    def find(name: str) -> RunDirectory:
        (found,) = (folder / name).glob("*/*")
        return RunDirectory(found)

    begin = time.perf_counter()
    assert wait(fork(lambda: start(config["whole"], []))) == 0
    duration = time.perf_counter() - begin

    rng = random.Random(0)
    kills = []
    for number in range(num_kills):
        name = str(number)
        if number % 4 == 0:  # inside the writing of a checkpoint, a summary or the metrics
            call, count = rng.choice(["fsync", "replace"]), rng.randrange(8, 40)

            def task(name=name, call=call, count=count):
                die_inside(call, count)
                start(config[name], [])

            moment = f"before {call} number {count}"
            child = fork(task)
        else:
            delay = rng.uniform(0.15, 1.0) * duration
            moment = f"after {delay:.3f} of {duration:.3f} s"
            child = fork(lambda name=name: start(config[name], []))
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        wait(child)
        if not list((folder / name).glob("*/*")):  # before it had a directory: there is nothing to go on with
            assert wait(fork(lambda name=name: start(config[name], []))) == 0
        run = find(name)
        epochs = len(run.read_metrics())
        status = run.read_json(run.summary).get("status")
        partial = sorted(path.name for path in run.path.rglob(".*.partial"))
        assert wait(fork(lambda run=run: resume(str(run.path), []))) == 0, f"resuming failed: {moment}"
        kills.append({"run": str(run), "moment": moment, "epochs": epochs, "status": status, "partial": partial})
    (folder / "kills.json").write_text(json.dumps({"whole": str(find("whole")), "kills": kills}, indent=2))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
