"""Files that a command writes: what may stand in their place, and what is said of what did."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from cnnlab.data.files import name_kind
from cnnlab.errors import ConfigError, StorageError, printable


def check_output(given: str) -> Path:
    """The file that --output names. Raises ConfigError for what no file should replace, such as a device."""
    if not given:
        raise ConfigError("--output: '' was given; expected a file to write")
    path = Path(given)
    kind = name_obstacle(path)
    if kind is not None:
        raise ConfigError(f"--output {given}: is {kind}; expected a file, or nothing yet")
    return path


def require_replaceable(path: Path) -> None:
    """Raises StorageError where a file that the command needs for itself cannot be."""
    kind = name_obstacle(path)
    if kind is not None:
        raise StorageError(f"{path}: is {kind}; expected a file: remove it")


def name_obstacle(path: Path) -> str | None:
    """What lies there that is no regular file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # nothing yet, or a link to nothing
        return None
    return None if stat.S_ISREG(mode) else name_kind(mode)


def announce(path: Path) -> None:
    """Say on stderr, before a file is written, that it takes the place of another, or that its folder is made."""
    if path.is_file():
        print(f"written over: {printable(path)}", file=sys.stderr)
    elif not path.parent.is_dir():
        print(f"folder made: {printable(path.parent)}", file=sys.stderr)
