"""Rows of scores in a file that grows chunk by chunk, so that a prediction that was stopped goes on where it was.

The first line tells what is predicted by what; the rows of another prediction are thrown away. After it each
row is its float64 numbers and a seal made of their bits, the row's index and the first line, by which rows that
were never wholly written, or have changed since, are known.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnlab.errors import StorageError

SEAL = np.int64(0x5EA1_5EA1_5EA1_5EA1)  # so that a row of nothing but zero bits is not sealed


class Scores:
    """The scores of a series of images as far as they are known: `len` rows of `num_columns` numbers.

    `chunk` is how many rows are appended at a time, the last ones apart; a chunk that is not whole is dropped.
    Raises StorageError if the file cannot be written.
    """

    def __init__(self, path: Path, subject: Mapping[str, Any], num_columns: int, chunk: int):
        self.path = path
        self._num_columns = num_columns
        header = json.dumps(dict(subject)).encode() + b"\n"
        self._offset = len(header)
        self._root = zlib.crc32(header)
        try:
            with self.path.open("ab+") as file:
                file.seek(0)
                if file.read(len(header)) != header:
                    file.truncate(0)
                    self._write(file, header)
            self._num_rows = self._count_whole(chunk)
            os.truncate(self.path, self._offset + self._num_rows * self._row_bytes)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be opened ({error}); remove it") from error

    def __len__(self) -> int:
        return self._num_rows

    def append(self, rows: np.ndarray) -> None:
        """Float64 (N, num_columns), on the disk when this returns."""
        sealed = np.empty((len(rows), self._num_columns + 1), dtype=np.int64)
        sealed[:, :-1] = rows.view(np.int64)
        sealed[:, -1] = self._seal(sealed, self._num_rows)
        with self.path.open("ab") as file:
            self._write(file, sealed.tobytes())
        self._num_rows += len(rows)

    def read(self) -> np.ndarray:
        """All rows, float64 (len, num_columns), mapped and not loaded."""
        if not self._num_rows:
            return np.empty((0, self._num_columns))
        return self._map(self._num_rows)[:, :-1].view(np.float64)

    @property
    def _row_bytes(self) -> int:
        return 8 * (self._num_columns + 1)

    def _map(self, num_rows: int) -> np.ndarray:
        shape = (num_rows, self._num_columns + 1)
        return np.memmap(self.path, dtype=np.int64, mode="r", offset=self._offset, shape=shape)

    def _count_whole(self, chunk: int) -> int:
        num_rows = (self.path.stat().st_size - self._offset) // self._row_bytes
        if num_rows == 0:
            return 0
        rows = self._map(num_rows)
        torn = np.flatnonzero(rows[:, -1] != self._seal(rows, 0))
        num_whole = int(torn[0]) if len(torn) else num_rows
        return num_whole // chunk * chunk

    def _seal(self, rows: np.ndarray, first: int) -> np.ndarray:
        """Of rows, the first of which has the index `first`, what their last column should hold."""
        numbers = np.ascontiguousarray(rows[:, :-1])
        sums = (zlib.crc32(row, self._root ^ index) for index, row in enumerate(numbers, start=first))
        return np.fromiter(sums, np.int64, len(numbers)) ^ SEAL

    def _write(self, file: Any, content: bytes) -> None:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be written ({error}); free some space, then the same command goes on"
            ) from error
