"""The processes of trials, forked from one that has loaded what they use.

This module is read by each of them, and so imports next to nothing.
"""

from __future__ import annotations

from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess


def begin_server() -> None:
    """Begin the process that others are forked from; returns at once, while it loads torch, which takes seconds.

    Without effect where it is there already. It ends with the process that has begun it.
    """
    get_context("forkserver").set_forkserver_preload(["cnnlab.sweeps.preloaded"])
    forkserver.ensure_running()


def begin_trial(path: str, number: int, gpu: int | None) -> BaseProcess:
    """Begin a trial of the sweep in `path`."""
    begin_server()
    process = get_context("forkserver").Process(target=run_trial, args=(path, number, gpu))
    process.start()
    return process


def run_trial(path: str, number: int, gpu: int | None) -> None:
    from cnnlab.sweeps.trial import begin_process  # which loads torch: in the trial's process, not in this one

    begin_process(path, number, gpu)
