"""Files that are replaced all or nothing: a reader sees the old one or the new one, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of `path` in the end; if that fails it is as it was. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with suppress(OSError):  # a disk that cannot be written has a reason of its own to tell
            partial.unlink(missing_ok=True)
