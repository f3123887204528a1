"""Fetching published files, and what to say when that is not possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from cnnlab.errors import DataError


def download_or_explain(fetch: Callable[[], None] | None, folders: Iterable[Path], names: Iterable[str]) -> None:
    """Call `fetch`. Where there is none, or it fails, raise DataError naming the folders and files wanted."""
    reason = "downloading is switched off (dataset.download=false)"
    if fetch is not None:
        try:
            return fetch()
        # torchvision's downloader reports a missing network as any of these.
        except (OSError, RuntimeError, ValueError) as error:
            reason = f"downloading failed ({error})"
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(
        f"data missing: looked in {looked} for {', '.join(names)}; {reason}. "
        "Put the files into one of these folders, or name theirs with dataset.root=FOLDER"
    )
