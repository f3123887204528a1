"""The machine under a run: its device, its threads, its random streams, its signals."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import FrameType

import torch

from cnnlab.distributed import largest, num_processes
from cnnlab.errors import ConfigError, Interrupted

PR_SET_PDEATHSIG = 1  # as <sys/prctl.h> numbers it
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as <malloc.h> numbers them


def choose_device(name: str) -> torch.device:
    """The device that `engine.device` names; "auto" takes cuda, then mps, then cpu.

    Raises ConfigError for a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"engine.device: {name!r} was given; expected auto, cpu, cuda, cuda:N or mps") from None
    missing = (
        (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count())
        or (device.type == "mps" and not torch.backends.mps.is_available())
        or device.type not in ("cpu", "cuda", "mps")
    )
    if missing:
        raise ConfigError(f"engine.device: {name!r} is not on this machine; engine.device=auto takes what is")
    if num_processes() > 1:
        require_device_for_each(device)
    return device


def require_device_for_each(device: torch.device) -> None:
    """Raises ConfigError if the processes on this machine cannot have a device of this type each."""
    if device.index is not None or device.type == "mps":
        raise ConfigError(
            f"engine.device: {str(device)!r} was given to many processes; expected auto, cuda (each takes the GPU of "
            "its own number) or cpu"
        )
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cuda" and here > torch.cuda.device_count():
        raise ConfigError(
            f"engine.device: {here} processes and {torch.cuda.device_count()} GPUs are on this machine; expected "
            f"torchrun --nproc-per-node {torch.cuda.device_count()}, or engine.device=cpu"
        )


def derive_seed(*parts: int | str) -> int:
    """A seed of its own for each tuple of parts, such as (seed, epoch, "order"): 32 bits, spread evenly.

    Streams that come from different parts share nothing, so drawing more from one moves no other.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seed_step(device: torch.device, *parts: int | str) -> None:
    """Set torch's global generators, from which dropout draws, for what comes next on `device`."""
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step, instead of giving it back to the system.

    By its defaults glibc returns large blocks at once, and each step pays for having their pages mapped and zeroed
    anew: 780,000 page faults in a first epoch of mnist_cnn on MNIST, and a third of its time; a third of vgg11's on
    images of 64x64. The price is a heap with gaps: up to a third more memory at the peak. Other C libraries are left
    as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # no block is a mapping of its own, however large
        mallopt(M_TRIM_THRESHOLD, -1)


def die_with_parent() -> None:
    """Have the system kill this process, on Linux, at the moment in which the one that forked it ends.

    However that ends, no orphan goes on working or holds the locks that it inherited.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class StopRequest:
    """Context in which SIGINT (Ctrl-C) and SIGTERM raise Interrupted.

    While `wait_for_step` is set they are only noted, to be acted on between two steps, after `agree`; a second
    one does not wait.
    """

    def __init__(self) -> None:
        self.wait_for_step = False
        self.noted: int | None = None  # signal that this process got
        self.signum: int | None = None  # signal that a process of this run got, and all know of
        self._previous: dict[int, object] = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if not self.wait_for_step or self.noted is not None:
            raise Interrupted(signum)
        self.noted = signum

    def __enter__(self) -> StopRequest:
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[signum] = signal.signal(signum, self._note)
            except ValueError:  # not the main thread, where Python allows no handlers
                break
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def agree(self, time_is_over: bool) -> bool:
        """Make what any process was asked for, since the last time, the request of all: they end at the same step.

        Returns whether time is over for any of them. Called once a step by each; no device is waited for.
        """
        signum, over = largest(self.noted or 0, time_is_over)
        self.signum = int(signum) or None
        return bool(over)

    @property
    def requested(self) -> bool:
        return self.signum is not None

    def check(self) -> None:
        if self.signum is not None:
            raise Interrupted(self.signum)


@cache
def worker_threads(number: int) -> ThreadPoolExecutor:
    """Threads for Python that calls torch, each of which computes alone: torch starts no others in them."""
    return ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=worker_threads.cache_clear)  # a child process has none of them


def num_cores() -> int:
    """How many cores this process may use, which a container or `taskset` can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
