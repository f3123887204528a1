"""Checkpoints: written so that a crash at any moment leaves a whole one, read so that a broken one is noticed.

A file holds plain containers and tensors only. It is written beside its place, flushed to the disk and
moved; the one before it stays as `previous.pt`. torch's format is a zip archive with a checksum for
every tensor: those are verified before anything is used. Loading never runs code (`weights_only=True`).
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab.atomic import replacing
from cnnlab.errors import CheckpointError, StorageError, format_list

FORMAT = 2
VERSIONS = {1: "0.1"}  # of cnnlab, that wrote earlier formats
SNAPSHOT = {"model": dict, "optimizer": dict, "average": dict, "state": dict}  # what a run goes on from
COUNTS = {"step": int, "num_rows": int}  # … and of its state at least


def save_checkpoint(path: Path, contents: dict[str, Any], keep: Path | None = None) -> None:
    """Write `contents` to `path`, all or nothing; what was there moves to `keep` if given.

    Raises StorageError (full disk, no permission), leaving what was there before.
    """
    try:
        with replacing(path) as partial:
            with partial.open("wb") as file:
                torch.save({**contents, "format": FORMAT}, file)
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(path, keep)
        _flush_folder(path.parent)
    # torch's writer reports a failed write as a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise StorageError(
            f"{path}: the checkpoint could not be written ({error}); earlier checkpoints are intact. "
            "Free some space or fix the permissions, then: cnnlab resume RUN"
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save_checkpoint` wrote. Raises CheckpointError for a file that is truncated, altered or holds code."""
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
    except CheckpointError:
        raise
    except Exception as error:  # torch and zipfile raise what their decoders happen to raise
        raise CheckpointError(f"{path}: truncated or not a checkpoint ({error})") from error
    if not isinstance(contents, dict) or contents.get("format") not in (FORMAT, *VERSIONS):
        held = (
            f"the format {contents.get('format')!r}" if isinstance(contents, dict) else f"a {type(contents).__name__}"
        )
        raise CheckpointError(f"{path}: holds {held}; expected a checkpoint that cnnlab up to this version has written")
    return contents


def load_newest(
    paths: list[Path], device: torch.device | str, run: str | None = None
) -> tuple[dict[str, Any] | None, list[str]]:
    """The first of `paths` from which the run called `run` can go on (None if none exists), and what the others lack.

    Raises CheckpointError if there are files and none of them will do.
    """
    problems: list[str] = []
    for path in paths:
        if path.exists():
            try:
                contents = load_checkpoint(path, device)
                require_snapshot(path, contents, run)
            except CheckpointError as error:
                problems.append(str(error))
            else:
                return contents, problems
    if problems:
        raise CheckpointError("no checkpoint to go on from: " + "; ".join(problems))
    return None, problems


# --- What it holds ------------------------------------------------------------------------------------


def require_snapshot(path: Path, contents: dict[str, Any], run: str | None) -> None:
    """Raises CheckpointError for a checkpoint from which the run called `run` cannot go on."""
    if contents["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: was written by cnnlab {VERSIONS[contents['format']]}, and this version does not go on with it; "
            "it can be evaluated and predict. To go on, use the version that wrote it, or train anew"
        )
    require_parts(path, contents, SNAPSHOT)
    require_parts(path, contents["state"], COUNTS, "state.")
    require_run(path, contents, run)


def require_run(path: Path, contents: dict[str, Any], run: str | None) -> None:
    """Raises CheckpointError for the checkpoint of another run than `run`, where both say which they are of."""
    if run is not None and contents.get("run", run) != run:
        raise CheckpointError(f"{path}: is of another run; expected the file as training left it in this directory")


def require_parts(path: Path, contents: Any, parts: Mapping[str, type], where: str = "") -> None:
    """Raises CheckpointError unless `contents` has these parts, of these types."""
    wrong = [
        f"{where}{name} is a {type(contents[name]).__name__}" if name in contents else f"{where}{name} is missing"
        for name, kind in parts.items()
        if not isinstance(contents.get(name), kind) or isinstance(contents.get(name), bool)
    ]
    if wrong:
        expected = ", ".join(f"{where}{name} ({kind.__name__})" for name, kind in parts.items())
        raise CheckpointError(f"{path}: {', '.join(wrong)}; expected the file as training left it, with {expected}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights that a checkpoint holds, of whatever network. Raises CheckpointError."""
    contents = load_checkpoint(path)
    require_parts(path, contents, {"model": dict})
    require_parts(path, contents["model"], dict.fromkeys(contents["model"], Tensor), "model.")
    return contents["model"]


def put_weights(model: nn.Module, path: Path, contents: dict[str, Any]) -> None:
    """Load the weights that a checkpoint holds. Raises CheckpointError if they are another network's, or no numbers."""
    require_parts(path, contents, {"model": dict})
    weights, own = contents["model"], model.state_dict()
    others = [name for name in own if not is_like(weights.get(name), own[name])]
    others += [str(name) for name in weights if name not in own]
    if others:
        raise CheckpointError(
            format_list(f"{path}: holds another network's weights than config.yaml describes; different", others)
            + "; expected the file as training left it"
        )
    odd = [name for name, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if odd:
        raise CheckpointError(format_list(f"{path}: holds weights that are no finite numbers", odd))
    model.load_state_dict(weights)


def is_like(value: Any, own: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == own.shape


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows a folder to be flushed."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
