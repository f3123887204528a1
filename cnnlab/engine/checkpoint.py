"""Checkpoints: written so that a crash at any moment leaves a whole one, read so that a broken one is noticed.

A file holds plain containers and tensors only. It is written beside its place, flushed to the disk and
moved; the one before it stays as `previous.pt`. torch's format is a zip archive with a checksum for
every tensor: those are verified before anything is used. Loading never runs code (`weights_only=True`).
"""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from cnnlab.errors import CheckpointError, StorageError

FORMAT = 2
VERSIONS = {1: "0.1"}  # of cnnlab, that wrote earlier formats


def save_checkpoint(path: Path, contents: dict[str, Any], keep: Path | None = None) -> None:
    """Write `contents` to `path`, all or nothing; what was there moves to `keep` if given.

    Raises StorageError (full disk, no permission), leaving what was there before.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **contents}, file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(partial, path)
        _flush_folder(path.parent)
    # torch's writer reports a failed write as a RuntimeError.
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: the checkpoint could not be written ({error}); earlier checkpoints are intact. "
            "Free some space or mend the permissions, then: cnnlab resume RUN"
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save_checkpoint` wrote. Raises CheckpointError for a file that is torn, altered or holds code."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path}: damaged (the checksum of {damaged} is wrong)")
        contents = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it holds more than tensors and plain containers, and loading it could run code"
        ) from error
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: torn or not a checkpoint ({error})") from error
    if not isinstance(contents, dict) or contents.get("format") not in (FORMAT, *VERSIONS):
        raise CheckpointError(f"{path}: holds no checkpoint of this version of cnnlab, or an earlier one")
    return contents


def require_current(path: Path, contents: dict[str, Any]) -> None:
    """Raises CheckpointError for a checkpoint of an earlier format, from which no run goes on."""
    if contents["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: was written by cnnlab {VERSIONS[contents['format']]}, and this version does not go on with it; "
            "it can be evaluated and predict. To go on, use the version that wrote it, or train anew"
        )


def load_newest(paths: list[Path], device: torch.device | str) -> tuple[dict[str, Any] | None, list[str]]:
    """The first of `paths` that is whole (None if none exists), and what was wrong with those passed over.

    Raises CheckpointError if there are files and none of them is whole.
    """
    problems: list[str] = []
    for path in paths:
        if path.exists():
            try:
                contents = load_checkpoint(path, device)
            except CheckpointError as error:
                problems.append(str(error))
            else:
                require_current(path, contents)
                return contents, problems
    if problems:
        raise CheckpointError("no checkpoint is whole: " + "; ".join(problems))
    return None, problems


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows a folder to be flushed."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
