"""Decoded pictures in one file, which is mapped into memory rather than read into it.

The file holds a mark of eight bytes, eight of a digest of its name, its length and the table that follows, four int64
for each picture (where its pixels begin, height, width, their CRC-32 begun with the height), then the pixels, uint8
(H, W, C), one picture after another to the end of the file. Its name tells what is in it and ends with a hash of every
picture's name, size and time of change, so that whoever finds it has the right one without opening a picture:

    train-256-rgb-0f1e2d3c4b5a6978.pack

A pack of JPEGs ("-jpeg" in its name) has those in the place of pixels, and their CRC-32 in that of the pixels'.

Mark, digest, table and length are checked whenever it is opened, the pixels when that is asked for, or all of them are
read anyway. A damaged file is made anew.

Packing is all or nothing. The file grows beside its place, is flushed to the disk and moved. A process that is killed
leaves a `.partial` file that the next one removes; two at the same time take turns. A pack of the same pictures as
they were before goes when the new one is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Protocol, TypeVar
from zlib import crc32

import numpy as np
import torch

from cnnlab.atomic import replacing
from cnnlab.data.files import explain_broken
from cnnlab.data.store import Packed, PackedJpegs, Resident
from cnnlab.distributed import say
from cnnlab.errors import DataError, StorageError, abridge, format_bytes, printable
from cnnlab.progress import Progress
from cnnlab.threads import num_cores

MARK = b"cnnlab 3"  # of this format, eight bytes so that the int64 after them are aligned
HEADER = 16  # bytes before the table: the mark, the digest
ROW = 32  # bytes of the table a picture
SHARE = 0.5  # of the disk that is free, which pixels may take unasked
SPARE = 64 << 20  # bytes of the disk that packing leaves free
AT_ONCE = 16  # pictures that a thread takes at a time
REMEDY = "dataset.on_bad_image=skip"  # for pictures that cannot be decoded

Result = TypeVar("Result")


class Decoder(Protocol):
    """What pictures become in a pack; `str` of it is the name of that in the name of the file."""

    @property
    def channels(self) -> int: ...

    @property
    def is_encoded(self) -> bool:
        """Whether the pack has JPEGs of what is decoded."""
        ...

    def measure(self, path: Path) -> int:
        """How many pixels it will have, from no more than the picture's header. Raises DataError."""
        ...

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W, C) of so many pixels. Raises DataError."""
        ...

    def encode(self, path: Path) -> tuple[bytes, tuple[int, int]]:
        """A JPEG of that, with height and width. Raises DataError."""
        ...

    def allows(self, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """Which sizes the pictures that it has decoded may have."""
        ...


class DamagedPack(Exception):
    """Why a file is not a pack of these pictures as it was written."""


class Pack:
    """An open file. A picture that could not be decoded has height and width 0.

    Raises DamagedPack for a file that `write_pack` has not left so; of its pixels `find_damaged` tells more.
    """

    def __init__(self, path: Path, num_pictures: int, decoder: Decoder):
        begin = HEADER + ROW * num_pictures
        try:
            size = path.stat().st_size
            if size < begin:
                raise DamagedPack(f"it ends after {size:,} bytes, in its table of {num_pictures:,} pictures")
            stored = np.memmap(path, mode="c").view(np.ndarray)  # copy on write: nobody can change the file
        except OSError as error:
            raise DamagedPack(f"it cannot be read ({error})") from error
        mark, digest, table = stored[: len(MARK)], stored[len(MARK) : HEADER], stored[HEADER:begin]
        if mark.tobytes() != MARK:
            raise DamagedPack(f"it begins with {mark.tobytes()!r}; expected {MARK!r}")
        if digest.tobytes() != digest_table(path.name, len(stored), table):
            raise DamagedPack("its table or its length is not what was written for these pictures")
        self._spots = table.view(np.int64).reshape(num_pictures, 4)
        self._pixels = stored[begin:]
        self._channels = decoder.channels
        self._is_encoded = decoder.is_encoded
        self._lengths = np.diff(self._spots[:, 0], append=len(self._pixels))  # bytes of each
        if not are_consistent(self._spots, len(self._pixels), decoder):
            raise DamagedPack("the pictures in its table are not those in the file")

    @property
    def broken(self) -> list[int]:
        """Which pictures could not be decoded."""
        return np.flatnonzero(self._spots[:, 1] == 0).tolist()

    def squares(self, image_size: int) -> Resident:
        """Pictures that are all squares of `image_size`, over the mapped file; broken ones are black."""
        return Resident(torch.from_numpy(self._pixels).view(-1, image_size, image_size, self._channels))

    def pictures(self, image_size: int) -> Packed:
        """Pictures as large as they are, to have squares of `image_size` cut out of them."""
        spots, checksums = self._spots.copy(), self._spots[:, 3].copy()
        spots[:, 3] = 0  # all in file 0
        if self._is_encoded:
            spots = np.column_stack([spots, self._lengths])
            return PackedJpegs([self._pixels], spots, checksums, self._channels, image_size)
        return Packed([self._pixels], spots, checksums, self._channels, image_size)

    def find_damaged(self) -> list[int]:
        """Which pictures' pixels are not those that were packed. All of them are read, with a bar of the progress."""

        def is_damaged(index: int) -> bool:
            begin, height, _, checksum = self._spots[index].tolist()
            pixels = self._pixels[begin : begin + int(self._lengths[index])]
            return height > 0 and crc32(pixels.data, height) != checksum

        results = in_threads(is_damaged, range(len(self._spots)), "verifying")
        return [index for index, (damaged, _) in enumerate(results) if damaged]


def digest_table(name: str, num_bytes: int, table: np.ndarray) -> bytes:
    """Eight bytes that are others for another table, length or name of the file, which says what the pictures are."""
    digest = hashlib.blake2b(os.fsencode(name) + num_bytes.to_bytes(8, "big"), digest_size=8)
    digest.update(table.data)
    return digest.digest()


def are_consistent(spots: np.ndarray, num_bytes: int, decoder: Decoder) -> bool:
    """Whether pictures of sizes that the decoder makes, one after another, fill the file."""
    begins, heights, widths = spots[:, 0], spots[:, 1], spots[:, 2]
    lengths = np.diff(begins, append=num_bytes)
    fits = lengths > 0 if decoder.is_encoded else heights * widths * decoder.channels == lengths
    whole = decoder.allows(heights, widths) & fits
    broken = (heights == 0) & (widths == 0) & (lengths >= 0)
    return bool((whole | broken).all()) and (begins[0] == 0 if len(begins) else num_bytes == 0)


def open_pack(
    paths: Sequence[Path],
    part: str,
    decoder: Decoder,
    folders: Sequence[Path],
    allow_broken: bool = False,
    verify: bool = False,
) -> Pack:
    """The pack of some pictures: from the first folder that has it, or made now in the first that can be written.

    One that is damaged, with `verify` also in its pixels, is told on stderr and made anew. Raises DataError naming the
    pictures that cannot be decoded, unless they are allowed, and StorageError if there is no room for the pack or no
    way to write it; then nothing is left behind.
    """
    kind = f"{part}-{decoder}"
    name = name_pack(paths, part, decoder)

    def find(folders: Sequence[Path]) -> Pack | None:
        for path in [folder / name for folder in folders]:
            if path.is_file():
                try:
                    pack = Pack(path, len(paths), decoder)
                    damaged = pack.find_damaged() if verify else []
                    if damaged:
                        raise DamagedPack(f"pixels of {abridge(paths[index].name for index in damaged)} have changed")
                    return pack
                except DamagedPack as error:
                    say(f"{path}: damaged, {printable(error)}; it is made anew")
        return None

    pack = find(folders)
    if pack is None:
        folder = next(filter(is_writable, folders), folders[-1])
        with alone_in(folder):
            pack = find([folder])  # as another process may have made it meanwhile
            if pack is None:
                write_pack(folder / name, paths, decoder, allow_broken)
                for earlier in set(folder.glob(f"{kind}-{'?' * 16}.pack")) - {folder / name}:
                    earlier.unlink(missing_ok=True)
                pack = Pack(folder / name, len(paths), decoder)
    if pack.broken and not allow_broken:
        raise DataError(explain_broken([find_fault(decoder, paths[index]) for index in pack.broken], REMEDY))
    return pack


Choice = TypeVar("Choice", bound=Decoder)


def choose_pack(
    parts: Mapping[str, Sequence[Path]], decoders: tuple[Choice, Choice], folders: Sequence[Path]
) -> Choice:
    """Of two the one that all parts are packed by; else the first if what it makes fits in SHARE of the free disk.

    One for all parts, which may be joined. Of many processes the first has packed them when the others ask.
    """

    def is_packed(part: str, decoder: Decoder) -> bool:
        return any((folder / name_pack(parts[part], part, decoder)).is_file() for folder in folders)

    for decoder in decoders:
        if all(is_packed(part, decoder) for part in parts):
            return decoder
    large, small = decoders
    folder = next(filter(is_writable, folders), folders[-1])
    while not folder.exists():
        folder = folder.parent
    needed = sum(int(measure_all(paths, large).sum()) for paths in parts.values())
    return large if needed < SHARE * shutil.disk_usage(folder).free else small


def name_pack(paths: Sequence[Path], part: str, decoder: Decoder) -> str:
    return f"{part}-{decoder}-{hash_files(paths)}.pack"


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
    """Sixteen digits that are others when the name, size or time of change of any file is."""
    digest = hashlib.blake2b(MARK + sys.byteorder.encode(), digest_size=8)
    for path in paths:
        try:
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # which decoding will tell
            state = "missing"
        digest.update(os.fsencode(f"\n{path.parent.name}/{path.name} {state}"))
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
    begin = HEADER + ROW * len(paths)
    spots = np.zeros((len(paths), 4), dtype=np.int64)
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            write = append_jpegs if decoder.is_encoded else place_pixels
            num_bytes, faults = write(file, begin, spots, paths, decoder)
            if faults and not allow_broken:
                raise DataError(explain_broken(faults, REMEDY))
            table = spots.view(np.uint8).ravel()
            file.seek(0)
            file.write(MARK + digest_table(path.name, begin + num_bytes, table) + table.tobytes())
            file.truncate(begin + num_bytes)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error}); free some space or choose another folder with dataset.cache=FOLDER"
        ) from error


def place_pixels(
    file: BinaryIO, begin: int, spots: np.ndarray, paths: Sequence[Path], decoder: Decoder
) -> tuple[int, list[str]]:
    """Write the pixels of all pictures, and fill in `spots`; how many bytes there are, and what is wrong."""
    lengths = measure_all(paths, decoder)
    require_room(Path(file.name).parent, begin + int(lengths.sum()))
    spots[:, 0] = lengths.cumsum() - lengths
    writing = Lock()

    def store(index: int) -> None:
        pixels = np.ascontiguousarray(decoder.decode(paths[index]))
        if pixels.size != lengths[index]:
            raise DataError(f"{paths[index]}: has changed since it was measured; try again")
        checksum = crc32(pixels.data, len(pixels))
        with writing:
            file.seek(begin + int(spots[index, 0]))
            file.write(pixels.data)
        spots[index, 1:] = *pixels.shape[:2], checksum

    faults = [fault for _, fault in in_threads(store, range(len(paths)), "packing") if fault]
    return int(lengths.sum()), faults


def append_jpegs(
    file: BinaryIO, begin: int, spots: np.ndarray, paths: Sequence[Path], decoder: Decoder
) -> tuple[int, list[str]]:
    """The same of JPEGs, whose lengths nobody knows before they are made: one after another as they come."""
    end, faults = 0, []
    file.seek(begin)
    for index, (made, fault) in enumerate(in_threads(decoder.encode, paths, "packing")):
        spots[index, 0] = end
        if made is None:
            faults.append(fault or "")
            continue
        content, shape = made
        file.write(content)
        spots[index, 1:] = *shape, crc32(content, shape[0])
        end += len(content)
    return end, faults


def measure_all(paths: Sequence[Path], decoder: Decoder) -> np.ndarray:
    """How many bytes the pixels of each picture are, int64; none of one that cannot be decoded."""
    num_pixels = [number or 0 for number, _ in in_threads(decoder.measure, paths, "measuring")]
    return decoder.channels * np.array(num_pixels, dtype=np.int64)


def in_threads(
    function: Callable[..., Result], items: Sequence, what: str
) -> Iterator[tuple[Result | None, str | None]]:
    """What `function` returns for each item in turn, or the message of its DataError, with a bar of the progress."""

    def work(some: Sequence) -> list[tuple[Result | None, str | None]]:
        results: list[tuple[Result | None, str | None]] = []
        for item in some:
            try:
                results.append((function(item), None))
            except DataError as error:
                results.append((None, str(error)))
        return results

    pieces = [items[begin : begin + AT_ONCE] for begin in range(0, len(items), AT_ONCE)]
    pool = ThreadPoolExecutor(num_cores())
    try:
        with Progress(f"{what} pictures", len(items)) as progress:
            for some in pool.map(work, pieces):
                yield from some
                progress.update(len(some))
    finally:
        pool.shutdown(cancel_futures=True)  # what is under way ends, what waits is dropped


def require_room(folder: Path, needed: int) -> None:
    """Raises StorageError if the disk of `folder` has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise StorageError(
            f"{folder}: the packed pictures need {format_bytes(needed)}, beside which {format_bytes(SPARE)} are to "
            f"stay free, and {format_bytes(free)} are free; free some space, choose another folder with "
            "dataset.cache=FOLDER, or a smaller dataset.resize"
        )


def find_fault(decoder: Decoder, path: Path) -> str:
    """Why a picture could not be packed."""
    try:
        decoder.decode(path)
    except DataError as error:
        return str(error)
    return f"{path}: could not be read when it was packed; touch it to have it packed again"
