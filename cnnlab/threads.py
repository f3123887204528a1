"""The CPU's cores, and the memory that their threads share."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

PR_SET_PDEATHSIG = 1  # as <sys/prctl.h> numbers it
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as <malloc.h> numbers them
JUST_STARTED = 10.0  # seconds ago, or less
LOOK = 0.1  # seconds, at least, for which it is watched what others do


def num_cores() -> int:
    """How many cores this process may use, which a container or `taskset` can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_of_machine() -> int | None:
    """Bytes of memory that there are, or that a container may use; None where the system does not tell."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory


class Work(NamedTuple):
    """How long, in seconds, the cores that this process may use and the process itself have worked, and when."""

    cores: float
    own: float  # with the processes that it has waited for
    time: float

    @classmethod
    def read(cls) -> Work:
        """Raises OSError, ValueError or AttributeError on a system that does not tell."""
        times = os.times()
        own = time.process_time() + times.children_user + times.children_system
        return cls(seconds_worked(), own, time.perf_counter())


@cache
def work_at_start() -> Work | None:
    """When it is first asked for, as below; None on a system that does not tell."""
    try:
        return Work.read()
    except (OSError, ValueError, AttributeError):
        return None


def others_compute() -> bool:
    """Whether other processes keep more than half a core busy, of those that this one may use.

    On average since this process has started, if that was a moment ago. Else it is looked at for a tenth of a second,
    in which this process waits. A container that may use all cores of its machine shares them with whatever runs there.
    False where the system does not tell.
    """
    before = work_at_start()
    if before is None:
        return False
    if time.perf_counter() - before.time > JUST_STARTED:
        before = Work.read()
    time.sleep(max(0.0, before.time + LOOK - time.perf_counter()))
    now = Work.read()
    return now.cores - before.cores - (now.own - before.own) > 0.5 * (now.time - before.time)


def seconds_worked() -> float:
    """How long the cores that this process may use have worked since the system started, all together (Linux)."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *spent = line.split()
        if name in ours:
            user, nice, system, _, _, irq, softirq = map(int, spent[:7])
            ticks += user + nice + system + irq + softirq
    return ticks / os.sysconf("SC_CLK_TCK")


@cache
def worker_threads(number: int) -> ThreadPoolExecutor:
    """Threads for Python that calls torch, each of which computes alone: torch starts no others in them."""
    return ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,))


def start_anew() -> None:
    """In a child process, which has none of the threads and has not worked yet."""
    worker_threads.cache_clear()
    work_at_start.cache_clear()
    work_at_start()


work_at_start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start_anew)


@contextmanager
def unchanged_threads() -> Iterator[None]:
    """The number of threads that torch computes with may be set inside; then it is as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def die_with_parent(parent: int) -> None:
    """Have the system kill this process, on Linux, at the moment in which `parent`, which forked it, ends.

    However that ends, no orphan goes on working or holds the locks that it inherited.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            os.kill(os.getpid(), signal.SIGKILL)
