"""The environment of the processes that are measured."""

from __future__ import annotations

import os


def leave_as_found() -> dict[str, str]:
    """What a process has that knows nothing of cnnlab: without what its import sets for torch's threads."""
    return {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
