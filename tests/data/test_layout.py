"""The tree of folders: where each file goes, links or copies, all or nothing, and the same when asked again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnlab.data import layout
from cnnlab.data.layout import plan_tree, write_tree
from cnnlab.data.pictures import Pictures
from cnnlab.errors import DataError, StorageError


@pytest.fixture
def parts(tmp_path) -> dict[str, Pictures]:
    """Ten files of two classes, divided, and three to predict."""
    (tmp_path / "source").mkdir()
    paths = [tmp_path / "source" / f"{number}.png" for number in range(13)]
    for path in paths:
        path.write_text(path.name)
    shares = {"train": paths[:6], "valid": paths[6:8], "test": paths[8:10], "unlabelled": paths[10:]}
    return {
        part: Pictures(
            tuple(share), tuple(p.stem for p in share), None if part == "unlabelled" else (0, 1) * (len(share) // 2)
        )
        for part, share in shares.items()
    }


def list_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


EXPECTED = {
    **{f"train/{'ab'[number % 2]}/{number}.png": f"{number}.png" for number in range(6)},
    **{f"valid/{'ab'[number % 2]}/{number}.png": f"{number}.png" for number in (6, 7)},
    **{f"test/{'ab'[number % 2]}/{number}.png": f"{number}.png" for number in (8, 9)},
    **{f"train_valid/{'ab'[number % 2]}/{number}.png": f"{number}.png" for number in range(8)},
    **{f"test/unknown/{number}.png": f"{number}.png" for number in (10, 11, 12)},
}


def refuse(*arguments):
    raise OSError("no such links here")


@pytest.mark.parametrize("kind", ["hard", "symbolic", "copy"])
def test_a_file_at_each_path_and_nothing_the_second_time(parts, tmp_path, monkeypatch, kind):
    if kind != "hard":
        monkeypatch.setattr(os, "link", refuse)
    if kind == "copy":
        monkeypatch.setattr(os, "symlink", refuse)
    output, plan = tmp_path / "tree", plan_tree(parts, ("a", "b"))
    assert write_tree(output, plan)
    assert list_files(output) == EXPECTED
    first = output / "train" / "a" / "0.png"
    assert (first.is_symlink(), first.samefile(tmp_path / "source" / "0.png")) == {
        "hard": (False, True), "symbolic": (True, True), "copy": (False, False),
    }[kind]  # fmt: skip
    before = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")}
    assert not write_tree(output, plan)
    assert {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")} == before


def test_an_interrupted_tree_is_gone_on_with_and_never_half(parts, tmp_path, monkeypatch):
    output, plan, put, made = tmp_path / "tree", plan_tree(parts, ("a", "b")), layout.put, []

    def stop_at_ten(source, target):
        if len(made) == 10:
            raise KeyboardInterrupt
        made.append(target)
        put(source, target)

    monkeypatch.setattr(layout, "put", stop_at_ten)
    with pytest.raises(KeyboardInterrupt):
        write_tree(output, plan)
    assert not output.exists()
    monkeypatch.setattr(layout, "put", lambda source, target: (made.append(target), put(source, target)))
    (made[0].parent / "of another split.png").touch()
    assert write_tree(output, plan)
    assert len(made) == len(plan) and list_files(output) == EXPECTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "tree"]


def test_a_folder_with_something_else_is_left_alone(parts, tmp_path):
    output = tmp_path / "tree"
    write_tree(output, plan_tree(parts, ("a", "b")))
    (output / "train" / "a" / "0.png").unlink()
    (output / "train" / "a" / "2.png").unlink()
    (output / "train" / "a" / "2.png").write_text("another")
    (output / "notes.txt").touch()
    before = list_files(output)
    with pytest.raises(DataError) as error:
        write_tree(output, plan_tree(parts, ("a", "b")))
    for told in ("missing (1): train/a/0.png", "do not belong there (1): notes.txt", "other files (1): train/a/2.png"):
        assert told in str(error.value)
    assert list_files(output) == before


def test_a_folder_that_cannot_be_written(parts, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_tree(tmp_path / "file" / "tree", plan_tree(parts, ("a", "b")))


def test_names_that_no_folder_can_have(parts, tmp_path):
    with pytest.raises(DataError, match=r"cannot name a folder \(2\): T-shirt/top, \.\."):
        plan_tree(parts, ("T-shirt/top", ".."))
    with pytest.raises(DataError, match=r"\(1\): unknown"):
        plan_tree(parts, ("known", "unknown"))
    twins = Pictures((tmp_path / "x" / "0.png",), ("0",), (0,))
    with pytest.raises(DataError, match=r"same name would lie in one folder \(1\): train_valid/a/0.png"):
        plan_tree({"train": parts["train"], "valid": twins}, ("a", "b"))
