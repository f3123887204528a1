"""Rows that come back bit for bit, and those that were torn do not."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlab.errors import StorageError
from cnnlab.runs.scores import Scores
from tests.data.damage import FEW, MANY, damage

ROWS = np.random.default_rng(0).standard_normal((12, 3))
ROWS[5] = [0.0, np.nan, -np.inf]
SUBJECT = {"networks": ["a"], "images": 12}


def fill(path, num_rows: int) -> Scores:
    scores = Scores(path, SUBJECT, 3, chunk=4)
    for start in range(len(scores), num_rows, 4):
        scores.append(ROWS[start : min(start + 4, num_rows)])
    return scores


def test_rows_come_back(tmp_path):
    scores = fill(tmp_path / "scores", 12)
    again = Scores(tmp_path / "scores", SUBJECT, 3, chunk=4)
    assert len(scores) == len(again) == 12
    for read in (scores.read(), again.read()):
        np.testing.assert_array_equal(read, ROWS)
    assert Scores(tmp_path / "none", SUBJECT, 3, chunk=4).read().shape == (0, 3)


def test_whatever_was_torn_off_the_end_only_whole_chunks_are_kept(tmp_path):
    path = tmp_path / "scores"
    fill(path, 12)
    whole = path.read_bytes()
    header = len(whole) - 12 * 4 * 8
    for size in range(0, len(whole), 3):
        path.write_bytes(whole[:size])
        kept = Scores(path, SUBJECT, 3, chunk=4)
        assert len(kept) == max(0, size - header) // (4 * 8) // 4 * 4
        np.testing.assert_array_equal(kept.read(), ROWS[: len(kept)])
        np.testing.assert_array_equal(fill(path, 12).read(), ROWS)


@pytest.mark.parametrize("damage", [b"\0" * 16, b"\x01", b"\0" * 32])
def test_a_chunk_that_was_not_wholly_written_is_dropped(tmp_path, damage):
    """As a power cut leaves a file: long enough, but zeros or something else in places."""
    path = tmp_path / "scores"
    fill(path, 12)
    content = bytearray(path.read_bytes())
    at = len(content) - 6 * 4 * 8  # in the second chunk
    content[at : at + len(damage)] = damage
    path.write_bytes(content)
    assert len(Scores(path, SUBJECT, 3, chunk=4)) == 4


@pytest.mark.parametrize("num", [4 * FEW, pytest.param(4 * MANY, marks=pytest.mark.slow)])
def test_damaged_scores_are_right_or_dropped(tmp_path, num):
    path = tmp_path / "scores"
    fill(path, 12)
    content, num_kept = path.read_bytes(), 0
    for changed in damage(content, num):
        path.write_bytes(changed)
        kept = Scores(path, SUBJECT, 3, chunk=4)
        np.testing.assert_array_equal(kept.read(), ROWS[: len(kept)])
        num_kept += len(kept)
    assert 0 < num_kept < 12 * num


def test_rows_and_numbers_that_change_places_are_not_taken(tmp_path):
    """Each is sealed, and the sum of a row's bits stays what it was."""
    path = tmp_path / "scores"
    fill(path, 12)
    content = path.read_bytes()
    begin, row = len(content) - 12 * 32, 32
    rows = content[:begin] + content[begin + row : begin + 2 * row] + content[begin : begin + row]
    numbers = content[:begin] + content[begin + 8 : begin + 16] + content[begin : begin + 8]
    for changed in (rows, numbers):
        path.write_bytes(changed + content[len(changed) :])
        assert len(Scores(path, SUBJECT, 3, chunk=4)) == 0


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / "scores").mkdir()
    with pytest.raises(StorageError, match="scores: cannot be opened"):
        Scores(tmp_path / "scores", SUBJECT, 3, chunk=4)


def test_scores_of_something_else_are_thrown_away(tmp_path):
    fill(tmp_path / "scores", 8)
    assert len(Scores(tmp_path / "scores", {**SUBJECT, "networks": ["b"]}, 3, chunk=4)) == 0


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    scores = fill(tmp_path / "scores", 4)
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left.*the same command goes on"):
        scores.append(ROWS[4:8])
