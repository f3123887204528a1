"""What lies in folders: in order, named where it is not read, and never waited for."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab import distributed
from cnnlab.cli import main
from cnnlab.data import DATASETS, files
from cnnlab.data.files import check_classes, list_folder, require_regular
from cnnlab.data.pictures import PictureDecoder, read_picture
from cnnlab.errors import DataError
from cnnlab.runs.predict import list_images
from tests.conftest import build_from


@pytest.fixture(autouse=True)
def nothing_was_said():
    distributed._SAID.clear()


@contextmanager
def within_seconds(number: int):
    """A test that waits for ever fails instead."""

    def stop(*_):
        raise AssertionError("it waits for what never comes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(number)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level,) * 3).save(path, format="PNG")
    return path


def build(root: Path, **given):
    return build_from(DATASETS, {"name": "image_folder", "root": str(root), "image_size": 8, **given})


# --- Kinds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["avif", "jp2", "heic"])
def test_newer_kinds_are_read_where_pillow_does(tmp_path, kind):
    if kind == "heic":
        pytest.importorskip("pillow_heif")
    for name in ("cat", "dog"):
        write(tmp_path / name / "1.png", level=200)
        Image.open(tmp_path / name / "1.png").save(tmp_path / name / f"2.{kind}")
    images = build(tmp_path).read("train")
    assert len(images) == 4
    assert abs(images.store[1].astype(int) - 200).max() <= 2


def test_kinds_that_something_could_be_installed_for_are_named_with_it(tmp_path, capsys, monkeypatch):
    for name in ("cat", "dog"):
        write(tmp_path / name / "1.png")
        for other in ("2.heic", "3.avif", "4"):
            (tmp_path / name / other).write_bytes(b"?")
    monkeypatch.setattr(files, "ENDINGS", (".png", ".jpg"))
    build(tmp_path)
    told = capsys.readouterr().err
    assert "passed over, their kind is not read (6): cat/2.heic, cat/3.avif, cat/4, dog/2.heic" in told
    assert told.endswith(
        "(.png, .jpg); .avif are read after pip install --upgrade pillow; "
        ".heic and .heif are read after pip install pillow-heif\n"
    )
    with pytest.raises(DataError, match="of a kind that is read; .heic and .heif are read after pip install"):
        read_picture(tmp_path / "cat" / "2.heic", grey=False)


# --- Listing ------------------------------------------------------------------------------------------


def test_pictures_in_order_below_and_what_is_beside_them(tmp_path):
    for name in (
        "10.png",
        "9.png",
        "b/1.JPG",
        "a/2.png",
        "a/10.png",
        "a/deep/x.gif",
        ".hidden.png",
        ".checkpoints/1.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("photo.jxr", "a/next.jxl", "a/nothing", "Thumbs.db", "b/readme.txt"):
        (tmp_path / name).touch()
    flat, deep = list_folder(tmp_path), list_folder(tmp_path, below=True)
    assert flat.pictures == ("9.png", "10.png") and flat.others == ("photo.jxr",) and flat.folders == ("a", "b")
    assert deep.pictures == ("9.png", "10.png", "a/2.png", "a/10.png", "a/deep/x.gif", "b/1.JPG")
    assert deep.others == ("photo.jxr", "a/next.jxl", "a/nothing", "b/readme.txt") and deep.folders == ()


def test_links_to_folders_are_followed_but_not_round_and_round(tmp_path):
    write(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cat" / "loop").symlink_to(tmp_path / "cat")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "self").symlink_to("self")
    with within_seconds(10):
        listing = list_folder(tmp_path / "cat", below=True)
    assert listing.pictures == ("more/1.png",) and listing.others == ("self", "loop/", "more/back/")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read .*Permission denied"):
        list_folder(tmp_path)


def test_torchvision_takes_the_same_pictures_in_the_same_order(tmp_path):
    from torchvision.datasets import ImageFolder

    for name in ("cat/1.png", "cat/a/2.png", "cat/a/b/3.png", "cat/c/4.png", "dog/x.png", "dog/old/y.png"):
        write(tmp_path / name)
    dataset = build(tmp_path)
    usual = [(str(Path(path).relative_to(tmp_path)), label) for path, label in ImageFolder(str(tmp_path)).samples]
    train = dataset.files["train"]
    assert list(zip(train.ids, train.labels, strict=True)) == usual


# --- Named --------------------------------------------------------------------------------------------


def test_kinds_that_are_not_read_are_named_with_what_to_do(tmp_path, capsys):
    for name in ("cat/1.png", "dog/1.png"):
        write(tmp_path / name)
    for number in range(12):
        (tmp_path / "cat" / f"{number:02}.jxr").touch()
    (tmp_path / "dog" / "nothing").touch()
    assert len(build(tmp_path).read("train")) == 2
    told = capsys.readouterr().err
    assert "files passed over, their kind is not read (13): cat/00.jxr, " in told and "and 3 more; convert them" in told
    list_images(tmp_path / "cat", grey=False)
    assert "files passed over, their kind is not read (12): 00.jxr" in capsys.readouterr().err
    with pytest.raises(DataError, match="no picture there"):
        (tmp_path / "jxl").mkdir()
        (tmp_path / "jxl" / "1.jxl").touch()
        list_images(tmp_path / "jxl", grey=False)
    assert "(1): 1.jxl" in capsys.readouterr().err


def test_what_is_said_is_said_once(tmp_path, capsys):
    for name in ("cat/1.png", "dog/1.png", "fox/notes.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    build(tmp_path)
    build(tmp_path)
    told = capsys.readouterr().err
    assert told.count("folders without a picture are no class (1): fox") == 1 and told.count("fox/notes.md") == 1


def test_parts_by_their_other_names(tmp_path, capsys):
    for part, num in (("Training", 3), ("val", 2), ("testing", 1), ("extra", 1), ("train_valid", 5)):
        for name in ("cat", "dog"):
            for number in range(num):
                write(tmp_path / part / name / f"{number}.png")
    dataset = build(tmp_path)
    assert {part: len(pictures) for part, pictures in dataset.files.items()} == {"train": 6, "valid": 4, "test": 2}
    assert dataset.files["valid"].ids[0] == "val/cat/0.png"
    told = capsys.readouterr().err
    assert "folders beside the parts passed over (1): extra (names of parts are train: train, training; valid" in told
    (tmp_path / "dev" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"folders that are each the valid part \(2\): dev, val; expected one of them"):
        build(tmp_path)


def test_parts_without_one_to_train_on_are_no_classes(tmp_path):
    for name in ("val/cat/1.png", "test/cat/1.png", "val/dog/1.png"):
        write(tmp_path / name)
    with pytest.raises(DataError, match=r"parts without one to train on \(2\): val, test; expected train/ beside them"):
        build(tmp_path)


def test_trains_may_be_a_class(tmp_path):
    for name in ("train/1.png", "car/1.png", "test/1.png"):
        write(tmp_path / name)
    assert build(tmp_path).facts.classes == ("car", "test", "train")


def test_a_part_without_pictures_is_named(tmp_path, capsys):
    for name in ("train/cat/1.png", "train/dog/1.png"):
        write(tmp_path / name)
    (tmp_path / "valid" / "cat").mkdir(parents=True)
    assert build(tmp_path).parts == ("train",)
    told = capsys.readouterr().err
    assert f"{tmp_path}/valid: holds no picture in a folder of a class" in told and "no class (1): cat" in told


@pytest.mark.parametrize(
    ("classes", "problems"),
    [
        (["cat", "dog"], []),
        (["cat"], ["one class only (1): cat; expected two or more, which a network can tell apart"]),
        (["Cat", "cat", "dog"], ["case, spaces or encoding only (1): Cat = cat; join or rename"]),
        (["caf\xe9", "cafe\u0301"], [r"only (1): caf\xe9 = cafe\u0301; join or rename"]),
        (["big cat", "big  cat"], ["(1): big cat = big  cat;"]),
        (["Stra\xdfe", "STRASSE", "x", "X"], [r"(2): Stra\xdfe = STRASSE, x = X"]),
        (["x\xb2", "x2"], []),
    ],
)
def test_classes_that_cannot_be_told_apart(classes, problems):
    found: list[str] = []
    check_classes(classes, found)
    assert len(found) == len(problems)
    assert all(problem in text for problem, text in zip(problems, found, strict=True))


def test_one_class_ends_every_command_before_a_run_begins(tmp_path, capsys):
    write(tmp_path / "data" / "cat" / "1.png")
    given = ["dataset=image_folder", f"dataset.root={tmp_path / 'data'}"]
    assert main(["train", *given, f"output_dir={tmp_path / 'runs'}"]) == 3
    assert "one class only (1): cat" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    assert main(["prepare", *given]) == 3
    assert "one class only (1): cat" in capsys.readouterr().out


# --- Only regular files are opened --------------------------------------------------------------------


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's address has at most a hundred letters
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


ODD_FILES = {
    "a named pipe": make_pipe,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "No such file": lambda path: path.symlink_to("nowhere.png"),
    "symbolic links": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", ODD_FILES)
@pytest.mark.parametrize("resize", [None, 10])
def test_what_is_no_file_is_refused_or_left_out_and_never_waited_for(tmp_path, kind, resize, capsys):
    for number in range(6):
        write(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", 10 * number)
    odd = tmp_path / "data" / "a" / "99.png"
    ODD_FILES[kind](odd)
    with within_seconds(20):
        with pytest.raises(DataError, match=rf"(?s)1 picture cannot be decoded.*99\.png.*{kind}"):
            build(tmp_path / "data", resize=resize).read("train")
        images = build(tmp_path / "data", resize=resize, on_bad_image="skip").read("train")
        assert images.name(range(6)) == [f"{'ab'[n % 2]}/{n}.png" for n in (0, 2, 4, 1, 3, 5)]
        assert "pictures left out, they cannot be decoded (1): " in capsys.readouterr().err
        assert main(["prepare", "dataset=image_folder", f"dataset.root={tmp_path / 'data'}", "split.test=0"]) == 3
        assert "99.png" in capsys.readouterr().out
        with pytest.raises(DataError, match=r"99\.png"):
            list_images(tmp_path / "data" / "a", grey=False).images.open(3, 8)
        with pytest.raises(DataError, match="is not there|no picture there|only regular files are read"):
            list_images(odd, grey=False)
        for read in (lambda: read_picture(odd, False), lambda: PictureDecoder(8, 8).measure(odd)):
            with pytest.raises(DataError, match=kind):
                read()


def test_a_table_that_is_no_file_is_missing(tmp_path):
    write(tmp_path / "train" / "1.png")
    os.mkfifo(tmp_path / "labels.csv")
    with within_seconds(10), pytest.raises(DataError, match="labels.csv: missing"):
        build_from(DATASETS, {"name": "image_csv", "root": str(tmp_path)})


def test_regular_files_pass(tmp_path):
    require_regular(write(tmp_path / "1.png"))
    (tmp_path / "link.png").symlink_to("1.png")
    require_regular(tmp_path / "link.png")
    assert np.array_equal(read_picture(tmp_path / "link.png", False), np.zeros((8, 8, 3)))
