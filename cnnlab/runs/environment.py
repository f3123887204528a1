"""What a run ran on: enough to explain why two runs differ."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import cnnlab
from cnnlab.device import name_device
from cnnlab.distributed import num_processes

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine, device, threads, and the commit of cnnlab's own checkout if it runs from one."""
    return {
        "cnnlab": cnnlab.__version__,
        **_describe_checkout(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor_features": torch.backends.cpu.get_cpu_capability(),
        "device": str(device),
        "device_name": name_device(device) if device.type == "cuda" else None,
        "processes": num_processes(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _describe_checkout() -> dict[str, Any]:
    """The git commit that cnnlab runs from and whether files differ from it; both None outside a checkout."""
    folder = Path(cnnlab.__file__).parent.parent
    unknown = {"git_commit": None, "git_dirty": None}
    if not (folder / ".git").exists():
        return unknown
    try:
        # One call for both: the header names the commit, any line after it is a difference.
        command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return unknown
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    return {
        "git_commit": commits[0] if commits else None,
        "git_dirty": any(not line.startswith("#") for line in lines),
    }
