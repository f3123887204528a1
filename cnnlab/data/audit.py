"""What is wrong with picture files that only opening every one of them shows.

Two files are the same picture if their bytes are the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnlab.data.dataset import Label, Pictures
from cnnlab.data.files import read_regular
from cnnlab.data.pack import in_threads
from cnnlab.data.pictures import read_picture
from cnnlab.errors import DataError


@dataclass(frozen=True)
class FileContent:
    """What one file is."""

    num_bytes: int
    digest: bytes  # of its contents
    size: tuple[int, int] | None  # width and height in pixels; None: it cannot be decoded
    reason: str = ""  # why not


@dataclass(frozen=True)
class Audit:
    """Every file with what it is, and those that something is wrong with; a group has the same contents."""

    contents: Mapping[Path, FileContent]
    empty: list[Path]
    broken: list[Path]
    mislabelled: list[list[Path]]  # groups with different labels; if not that,
    leaked: list[list[Path]]  # groups in different parts; if not that,
    duplicated: list[list[Path]]  # groups

    @property
    def unreadable(self) -> set[Path]:
        return {*self.empty, *self.broken}


def audit(files: Mapping[str, Pictures]) -> Audit:
    """Open every file of every part, in threads, with a progress bar."""
    paths = [path for pictures in files.values() for path in pictures.paths]
    results = zip(paths, in_threads(read_content, paths, "checking"), strict=True)
    contents = {path: content for path, (content, _) in results if content}
    part_of: dict[Path, str] = {}
    label_of: dict[Path, Label] = {}
    for part, pictures in files.items():
        part_of |= dict.fromkeys(pictures.paths, part)
        label_of |= dict(zip(pictures.paths, pictures.labels or (), strict=False))
    same: dict[bytes, list[Path]] = {}
    for path, content in contents.items():
        if content.num_bytes:
            same.setdefault(content.digest, []).append(path)
    found = Audit(
        contents=contents,
        empty=[path for path, content in contents.items() if not content.num_bytes],
        broken=[path for path, content in contents.items() if content.num_bytes and content.size is None],
        mislabelled=[],
        leaked=[],
        duplicated=[],
    )
    for group in same.values():
        if len({label_of[path] for path in group if path in label_of}) > 1:
            found.mislabelled.append(group)
        elif len({part_of[path] for path in group}) > 1:
            found.leaked.append(group)
        elif len(group) > 1:
            found.duplicated.append(group)
    return found


def read_content(path: Path) -> FileContent:
    try:
        content = read_regular(path)
    except DataError as error:
        return FileContent(-1, os.fsencode(path), None, str(error))
    except OSError as error:
        return FileContent(-1, os.fsencode(path), None, f"{path}: cannot be read ({error})")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    try:
        height, width, _ = read_picture(path, grey=False).shape
    except DataError as error:
        return FileContent(len(content), digest, None, str(error))
    return FileContent(len(content), digest, (width, height))
