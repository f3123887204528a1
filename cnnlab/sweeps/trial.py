"""One trial, in a process of its own: begun, or gone on with, in the directory that its sweep has named."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing import parent_process

import torch  # noqa: F401  (what the processes of trials are forked from has loaded it)

from cnnlab.config import parse
from cnnlab.errors import CnnlabError, Interrupted, Pruned, StorageError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from cnnlab.sweeps.directory import SweepDirectory
from cnnlab.sweeps.pruning import Judge
from cnnlab.sweeps.settings import parse_settings

POLL = 0.5  # seconds
PATIENCE = 60.0  # seconds


def begin_process(path: str, number: int, gpu: int | None) -> None:
    """What the process of a trial does; its exit code tells how it ended."""
    parent = os.getppid()
    os.setsid()  # Ctrl-C at a terminal is the sweep's, which asks each trial once
    sweep = SweepDirectory(path)
    log = os.open(sweep.log(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    threading.Thread(target=watch, args=(sweep, parent), daemon=True).start()
    try:
        carry_out(sweep, number)
    except (CnnlabError, Interrupted) as error:
        print(f"cnnlab: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # nothing is left to do, and unloading torch takes a while


def carry_out(sweep: SweepDirectory, number: int) -> None:
    """Train a trial to its end, which may come early. Raises what training raises."""
    plan = sweep.read_plan()
    trial = sweep.read_trials()[number]
    settings, run = parse_settings(plan["settings"]), sweep.run(number)
    judge = None if settings.pruner == "none" else Judge(sweep, settings, plan["metric"], trial)
    try:
        if not run.config.is_file():
            try:
                start(parse(trial.config), trial.values, into=run, judge=judge)
                return
            except StorageError:
                if not run.config.is_file():
                    raise  # otherwise a process of a killed sweep has made it meanwhile
        wait_until_left(run)
        if run.read_json(run.summary).get("status") not in ("completed", "pruned"):
            resume(str(run.path), [], judge=judge)
    except Pruned:
        pass


def wait_until_left(run: RunDirectory) -> None:
    """A trial of a killed sweep takes its last step and a checkpoint. Raises StorageError if it does not end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with run.locked():
                return
        except StorageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL)


def watch(sweep: SweepDirectory, begun_by: int) -> None:
    """Asks this process to stop when the sweep's, or the process that began it, is gone, or a file says so."""
    parent = parent_process()
    while (parent is None or parent.is_alive()) and os.getppid() == begun_by and not sweep.stop.exists():
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    begin_process(sys.argv[1], int(sys.argv[2]), None)
