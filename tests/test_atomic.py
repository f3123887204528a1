from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnlab.atomic import replacing


def test_a_file_is_replaced_in_the_end_alone(tmp_path):
    path = tmp_path / "new" / "file"
    for text in ("first", "second"):
        with replacing(path) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["file"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError, match="in the middle"), replacing(path) as partial:
        partial.write_text("half")
        raise ValueError("in the middle")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_the_reason_is_told_where_not_even_the_rest_can_be_removed(tmp_path, monkeypatch):
    """As on a file system that became read-only."""

    def refuse(self, missing_ok=False):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PermissionError, match="no room here"), replacing(tmp_path / "file"):
        raise PermissionError("no room here")
