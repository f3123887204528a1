"""What opening every file shows, each kind of fault by itself and told once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from cnnlab.data.audit import audit
from cnnlab.data.pictures import Pictures


@pytest.fixture
def files(tmp_path) -> dict[str, Pictures]:
    """Eighty small pictures, all different: 60 of two classes and 20 to predict."""
    for number in range(80):
        Image.new("RGB", (4 + number % 3, 5), (number, 0, 0)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(80)]
    return {
        "train": Pictures(tuple(paths[:60]), tuple(path.stem for path in paths[:60]), (0, 1) * 30),
        "unlabelled": Pictures(tuple(paths[60:]), tuple(path.stem for path in paths[60:])),
    }


def test_a_clean_set(files):
    found = audit(files)
    assert not (found.empty or found.broken or found.mislabelled or found.leaked or found.duplicated)
    assert len(found.contents) == 80
    for number, (path, look) in enumerate(found.contents.items()):
        assert look.size == (4 + number % 3, 5) and look.num_bytes == path.stat().st_size


def test_every_kind_of_fault(files, tmp_path):
    def path(number: int) -> Path:
        return tmp_path / f"{number}.png"

    path(1).write_bytes(b"")
    path(61).write_bytes(b"")  # two empty files are not the same picture
    path(3).write_bytes(path(3).read_bytes()[:40])
    path(65).write_text("no picture")
    shutil.copy(path(4), path(14))  # one class
    shutil.copy(path(4), path(24))
    shutil.copy(path(6), path(7))  # two classes
    shutil.copy(path(6), path(66))  # and once more among those to predict: told with the labels
    shutil.copy(path(8), path(68))
    shutil.copy(path(69), path(79))
    path(9).unlink()

    found = audit(files)
    assert found.empty == [path(1), path(61)]
    assert found.broken == [path(3), path(9), path(65)]
    assert all(str(one) in found.contents[one].reason for one in found.broken)
    assert found.mislabelled == [[path(6), path(7), path(66)]]
    assert found.leaked == [[path(8), path(68)]]
    assert found.duplicated == [[path(4), path(14), path(24)], [path(69), path(79)]]
