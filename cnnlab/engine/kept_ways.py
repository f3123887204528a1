"""What measuring has found, kept for equal runs: one small JSON of the user's, which can be deleted at any time.

It lies under the cache of the XDG base directory specification. A file that cannot be read or written is done without.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import cnnlab
from cnnlab.device import name_device
from cnnlab.engine.step import Training
from cnnlab.threads import num_cores

MAX_KEPT = 500  # entries; the oldest go


def find_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cnnlab", "computing.json")


def describe(training: Training, micro_batch_size: int | None, wanted: str) -> str:
    """Sixteen digits that are others for another network, optimizer, batch, machine or version, or another wish."""
    images, _ = training.train.batch(0, 0)
    optimizer = training.optimizer
    known = [
        str(training.model),
        [(name, list(value.shape)) for name, value in training.model.state_dict().items()],
        [type(optimizer).__name__, [len(group["params"]) for group in optimizer.param_groups]],
        [list(images.shape), training.learn_hardest, micro_batch_size, wanted],
        [name_device(training.device), torch.get_num_threads(), num_cores()],
        [torch.__version__, cnnlab.__version__, torch.are_deterministic_algorithms_enabled()],
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def find(key: str) -> dict[str, Any] | None:
    """What was kept under a key; None if nothing was."""
    entry = _read().get(key)
    return entry if isinstance(entry, dict) else None


def keep(key: str, entry: dict[str, Any]) -> None:
    """Of two processes that keep something at the same moment one may lose it, and is measured again."""
    entries = {name: value for name, value in _read().items() if name != key}
    entries = dict(list(entries.items())[-(MAX_KEPT - 1) :]) | {key: entry}
    path = find_file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
            json.dump(entries, file, indent=1)
        os.replace(file.name, path)


def _read() -> dict[str, Any]:
    try:
        found = json.loads(find_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
