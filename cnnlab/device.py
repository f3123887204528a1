"""The device that computes: which one, and how it is made ready."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

from cnnlab.distributed import local_rank, num_processes
from cnnlab.errors import ConfigError
from cnnlab.threads import keep_freed_memory


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
        or (device.type == "cpu" and device.index)
        or device.type not in ("cpu", "cuda", "mps")
    )
    if missing:
        raise ConfigError(f"engine.device: {name!r} is not on this machine; engine.device=auto takes what is")
    if num_processes() > 1:
        require_device_for_each(device)
    return device


def name_device(device: torch.device) -> str:
    """What its maker calls it, where that is told."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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


def start_device(name: str, num_threads: int | str | None = None, deterministic: bool = True) -> torch.device:
    """The device called `name`, with threads, if a number is given, memory and arithmetic set for it.

    Raises ConfigError.

    On CUDA some kernels add up in the order in which their threads happen to end, in the backward passes of
    convolutions and pooling for instance. With `deterministic` torch takes others, so that a run repeats bit for bit.
    """
    if isinstance(num_threads, int):
        torch.set_num_threads(num_threads)
    device = choose_device(name)
    if device.type == "cuda":
        if num_processes() > 1:
            torch.cuda.set_device(local_rank())
        elif device.index is not None:
            torch.cuda.set_device(device)  # whose streams are meant where none is named
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.backends.cudnn.deterministic = deterministic
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # which costs time, and helps to find bugs alone
    elif device.type == "cpu":
        keep_freed_memory()
    return device
