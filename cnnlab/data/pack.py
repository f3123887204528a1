"""Decoded pictures in one file, which is mapped into memory rather than read into it.

The file holds a mark, three int64 for each picture (where its pixels begin, height, width), then the pixels, uint8
(H, W, C), one picture after another. Its name tells what is in it and ends with a hash of every picture's name, size
and time of change, so that whoever finds it has the right one without opening a picture:

    train-256-rgb-0f1e2d3c4b5a6978.pack

Packing is all or nothing. The file grows beside its place, is flushed to the disk and moved. A process that is killed
leaves a `.partial` file that the next one removes; two at the same time take turns. A pack of the same pictures as
they were before goes when the new one is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
import torch

from cnnlab.data.store import Packed, Resident
from cnnlab.errors import MAX_LISTED, DataError, StorageError
from cnnlab.threads import num_cores

MARK = b"cnnlab 1"  # of this format, eight bytes so that the int64 after them are aligned
SPARE = 64 << 20  # bytes of the disk that packing leaves free
AT_ONCE = 16  # pictures that a thread takes at a time

Result = TypeVar("Result")


class Decoder(Protocol):
    """What pictures become in a pack; `str` of it is the name of that in the name of the file."""

    @property
    def channels(self) -> int: ...

    def measure(self, path: Path) -> int:
        """How many pixels it will have, from no more than the picture's header. Raises DataError."""
        ...

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W, C) of so many pixels. Raises DataError."""
        ...


class Pack:
    """An open file. A picture that could not be decoded has height and width 0."""

    def __init__(self, path: Path, num_pictures: int, channels: int):
        stored = np.memmap(path, mode="c").view(np.ndarray)  # copy on write: nobody can change the file
        begin = len(MARK) + 24 * num_pictures
        self._spots = stored[len(MARK) : begin].view(np.int64).reshape(num_pictures, 3)
        self._pixels = stored[begin:]
        self._channels = channels

    @property
    def broken(self) -> list[int]:
        """Which pictures could not be decoded."""
        return np.flatnonzero(self._spots[:, 1] == 0).tolist()

    def squares(self, image_size: int) -> Resident:
        """Pictures that are all squares of `image_size`, over the mapped file; broken ones are black."""
        return Resident(torch.from_numpy(self._pixels).view(-1, image_size, image_size, self._channels))

    def pictures(self, image_size: int) -> Packed:
        """Pictures as large as they are, to have squares of `image_size` cut out of them."""
        spots = np.pad(self._spots, ((0, 0), (0, 1)))  # all in file 0
        return Packed([self._pixels], spots, self._channels, image_size)


def open_pack(
    paths: Sequence[Path], part: str, decoder: Decoder, folders: Sequence[Path], allow_broken: bool = False
) -> Pack:
    """The pack of some pictures: from the first folder that has it, or made now in the first that can be written.

    Raises DataError naming the pictures that cannot be decoded, unless they are allowed, and StorageError if there is
    no room for the pack or no way to write it; then nothing is left behind.
    """
    kind = f"{part}-{decoder}"
    name = f"{kind}-{hash_files(paths)}.pack"
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        path = next(filter(is_writable, folders), folders[-1]) / name
        with alone_in(path.parent):
            if not path.is_file():
                write_pack(path, paths, decoder, allow_broken)
                for earlier in set(path.parent.glob(f"{kind}-{'?' * 16}.pack")) - {path}:
                    earlier.unlink(missing_ok=True)
    pack = Pack(path, len(paths), decoder.channels)
    if pack.broken and not allow_broken:
        raise DataError(explain_broken([find_fault(decoder, paths[index]) for index in pack.broken]))
    return pack


# --- Where it lies ------------------------------------------------------------------------------------


def cache_folders(root: Path, cache: str | None) -> list[Path]:
    """Where the packs of the dataset in `root` may lie: in `cache`, or else in `root` or the user's own cache."""
    root = root.resolve()
    own = f"{root.name}-{hashlib.blake2b(str(root).encode(), digest_size=4).hexdigest()}"
    if cache is not None:
        return [Path(cache, own)]
    return [root / ".cnnlab", Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cnnlab", own)]


def is_writable(folder: Path) -> bool:
    """Whether this process may write there, or make the folder."""
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def hash_files(paths: Sequence[Path]) -> str:
    """Sixteen digits that are others when the name, size or time of change of any file is. Raises DataError."""
    digest = hashlib.blake2b(MARK + sys.byteorder.encode(), digest_size=8)
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        digest.update(f"\n{path.parent.name}/{path.name} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


# --- Writing it ---------------------------------------------------------------------------------------


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Other processes that pack into this folder wait. Raises StorageError if there is no such folder to be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error}); choose another with dataset.cache=FOLDER") from error
    try:
        if descriptor is not None:
            import fcntl

            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        for stale in folder.glob(".*.partial"):  # of a process that was killed: whoever lives holds the lock
            stale.unlink(missing_ok=True)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()  # if it is empty still


def write_pack(path: Path, paths: Sequence[Path], decoder: Decoder, allow_broken: bool) -> None:
    """Decode every picture into a new file at `path`, or leave nothing. Raises DataError, StorageError."""
    num_pixels = [number or 0 for number, _ in in_threads(decoder.measure, paths, "measuring")]
    num_bytes = decoder.channels * np.array(num_pixels, dtype=np.int64)
    begin = len(MARK) + 24 * len(paths)
    total = begin + int(num_bytes.sum())
    require_room(path.parent, total)
    spots = np.zeros((len(paths), 3), dtype=np.int64)
    spots[:, 0] = num_bytes.cumsum() - num_bytes

    partial = path.with_name(f".{path.name}.partial")
    writing = Lock()
    try:
        with partial.open("wb") as file:

            def store(index: int) -> None:
                pixels = np.ascontiguousarray(decoder.decode(paths[index]))
                assert pixels.size == num_bytes[index], "a picture is as large as it was measured"
                with writing:
                    file.seek(begin + int(spots[index, 0]))
                    file.write(pixels.data)
                spots[index, 1:] = pixels.shape[:2]

            faults = [fault for _, fault in in_threads(store, range(len(paths)), "packing") if fault]
            if faults and not allow_broken:
                raise DataError(explain_broken(faults))
            file.seek(0)
            file.write(MARK + spots.tobytes())
            file.truncate(total)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error}); free some space or choose another folder with dataset.cache=FOLDER"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def in_threads(function: Callable[..., Result], items: Sequence, what: str) -> list[tuple[Result | None, str | None]]:
    """What `function` returns for each item, or the message of its DataError, with a bar of the progress."""
    from tqdm import tqdm

    def work(some: Sequence) -> list[tuple[Result | None, str | None]]:
        results: list[tuple[Result | None, str | None]] = []
        for item in some:
            try:
                results.append((function(item), None))
            except DataError as error:
                results.append((None, str(error)))
        return results

    pieces = [items[begin : begin + AT_ONCE] for begin in range(0, len(items), AT_ONCE)]
    results = []
    pool = ThreadPoolExecutor(num_cores())
    try:
        with tqdm(total=len(items), desc=f"{what} pictures", leave=False, disable=None) as bar:
            for some in pool.map(work, pieces):
                results += some
                bar.update(len(some))
    finally:
        pool.shutdown(cancel_futures=True)  # what is under way ends, what waits is dropped
    return results


def require_room(folder: Path, needed: int) -> None:
    """Raises StorageError if the disk of `folder` has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise StorageError(
            f"{folder}: the packed pictures need {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; "
            "free some space, choose another folder with dataset.cache=FOLDER, or a smaller dataset.resize"
        )


def find_fault(decoder: Decoder, path: Path) -> str:
    """Why a picture could not be packed."""
    try:
        decoder.decode(path)
    except DataError as error:
        return str(error)
    return f"{path}: could not be read when it was packed; touch it to have it packed again"


def explain_broken(reasons: Sequence[str]) -> str:
    """The message about pictures that cannot be decoded, each with its own reason."""
    shown = "".join(f"\n  {reason}" for reason in reasons[:MAX_LISTED])
    return (
        f"{len(reasons)} pictures cannot be decoded; mend or remove them, or leave them out with "
        f"dataset.on_bad_image=skip:{shown}"
    )
