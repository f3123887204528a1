"""Packed pictures: the right pixels, found again, made anew when a file changed, whole or not there at all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab import distributed
from cnnlab.composition import CONF
from cnnlab.data import DATASETS
from cnnlab.data import pack as pack_module
from cnnlab.data.pack import cache_folders, open_pack
from cnnlab.data.pictures import PictureDecoder, Pictures, read_picture, read_pictures
from cnnlab.data.resize import resize_picture, resized_shape
from cnnlab.errors import ConfigError, DataError, StorageError
from tests.conftest import build_from

SIZES = [(40, 50), (30, 90), (64, 48), (20, 20), (33, 31)]  # width, height
DECODER = PictureDecoder(image_size=24, resize=32)


def write_pictures(folder: Path, ending: str = "png", sizes=SIZES) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.{ending}" for number in range(len(sizes))]
    for path, (width, height) in zip(paths, sizes, strict=True):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


def packs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and ".cnnlab" in path.parts)


# --- Pixels -------------------------------------------------------------------------------------------


def test_a_packed_picture_is_the_picture_resized(tmp_path):
    paths = write_pictures(tmp_path)
    images = open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"]).pictures(24)
    for index, (path, (width, height)) in enumerate(zip(paths, SIZES, strict=True)):
        picture = torch.from_numpy(np.array(Image.open(path)))
        exact = torch.nn.functional.interpolate(
            picture.permute(2, 0, 1).unsqueeze(0).float(),
            resized_shape(height, width, 32),
            mode="bilinear",
            antialias=True,
        )[0].permute(1, 2, 0)  # fmt: skip
        assert images[index].shape == exact.shape and min(exact.shape[:2]) == 32
        assert np.abs(images[index] - exact.numpy()).max() <= 1
    assert images.sizes(torch.tensor([3, 0])).tolist() == [[32, 32], [40, 32]]
    assert np.array_equal(images.select(torch.tensor([4, 2]))[1], images[2])


def test_squares_are_opened_as_a_tensor_over_the_file(tmp_path):
    paths = write_pictures(tmp_path, sizes=[(8, 8)] * 4)
    pictures = Pictures(tuple(paths), ("0", "1", "2", "3"), (0, 1, 0, 1))
    images = read_pictures(pictures, "train", PictureDecoder(image_size=8), [tmp_path / ".cnnlab"])
    expected = np.stack([np.array(Image.open(path)) for path in paths])
    assert torch.equal(images.store.tensor, torch.from_numpy(expected)) and images.labels.tolist() == [0, 1, 0, 1]
    assert packs(tmp_path)[0].startswith("train-8x8-rgb-")


def test_orientation_is_kept_and_greys_have_one_channel(tmp_path):
    (path,) = write_pictures(tmp_path, sizes=[(40, 20)])
    turned, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6  # as a camera held upright writes it
    Image.open(path).save(turned, exif=exif, quality=95)
    decoder = PictureDecoder(image_size=10, resize=10, grey=True)
    image = open_pack([turned], "train", decoder, [tmp_path / ".cnnlab"]).pictures(10)[0]
    assert image.shape == (20, 10, 1)


@pytest.mark.parametrize(("side", "scale"), [(255, 1), (256, 2), (600, 4), (1100, 8)])
def test_large_jpegs_are_decoded_smaller_and_come_out_nearly_the_same(tmp_path, side, scale):
    """From eight times the wanted size on, and never to less than four times of it."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((side * 4 // 3, side))
    smooth.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as picture:
        picture.draft(None, (128, 128))
        assert picture.height == -(-side // scale)
    whole = read_picture(tmp_path / "a.jpg", grey=False)
    image = read_picture(tmp_path / "a.jpg", grey=False, shorter=32)
    exact = resize_picture(whole, resized_shape(*whole.shape[:2], 32))
    assert np.abs(image.astype(int) - exact).mean() <= (0 if scale == 1 else 2)


# --- Found again, made anew ---------------------------------------------------------------------------


def test_a_pack_is_used_again_without_opening_a_picture(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path)
    first = open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"]).pictures(24)
    monkeypatch.setattr(Image, "open", None)
    again = open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"]).pictures(24)
    assert all(np.array_equal(first[index], again[index]) for index in range(len(paths)))


@pytest.mark.parametrize("change", ["content", "time", "fewer"])
def test_a_change_makes_it_anew_and_removes_the_old_one(tmp_path, change):
    paths = write_pictures(tmp_path)
    folder = tmp_path / ".cnnlab"
    before = open_pack(paths, "train", DECODER, [folder]).pictures(24)[1].copy()
    other = [open_pack(paths, "test", DECODER, [folder]), open_pack(paths, "train", PictureDecoder(8), [folder])]
    names = packs(tmp_path)
    if change == "content":
        Image.new("RGB", (77, 50)).save(paths[1])
    elif change == "time":
        os.utime(paths[1], ns=(0, 0))
    else:
        del paths[0]
    images = open_pack(paths, "train", DECODER, [folder]).pictures(24)
    assert len(images) == len(paths) and len(other) == 2
    assert np.array_equal(images[1], before) == (change == "time")
    assert len(packs(tmp_path)) == 3 and len(set(packs(tmp_path)) & set(names)) == 2


def test_threads_change_nothing(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path, sizes=SIZES * 20)
    contents = []
    for threads in (1, 7):
        monkeypatch.setattr(pack_module, "num_cores", lambda threads=threads: threads)
        folder = tmp_path / str(threads)
        open_pack(paths, "train", DECODER, [folder])
        contents.append(next(folder.iterdir()).read_bytes())
    assert contents[0] == contents[1]


# --- Damaged ------------------------------------------------------------------------------------------


def reseal(content: bytes, name: str, num: int) -> bytes:
    """With the digest that the table would have, as one who means harm would write it."""
    table = np.frombuffer(content[16 : 16 + 32 * num], dtype=np.uint8)
    return content[:8] + pack_module.digest_table(name, len(content), table) + content[16:]


def set_number(content: bytes, picture: int, column: int, value: int) -> bytes:
    at = 16 + 32 * picture + 8 * column
    return content[:at] + int(value).to_bytes(8, "little", signed=True) + content[at + 8 :]


DAMAGES = {
    "truncated": lambda content: content[:-1],
    "cut in its table": lambda content: content[:50],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "another mark": lambda content: b"cnnlab 1" + content[8:],
    "zeros": lambda content: bytes(len(content)),
    "wild offset": lambda content: set_number(content, 1, 0, 1 << 60),
    "negative offset": lambda content: set_number(content, 1, 0, -8),
    "overlapping": lambda content: set_number(content, 2, 0, 0),
    "wild height": lambda content: set_number(content, 0, 1, 1 << 40),
    "negative height and width": lambda content: set_number(set_number(content, 0, 1, -32), 0, 2, -40),
    "turned": lambda content: set_number(set_number(content, 0, 1, 32), 0, 2, 40),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_pack_is_told_and_made_anew(tmp_path, kind, sealed, capsys):
    paths, folder = write_pictures(tmp_path), tmp_path / ".cnnlab"
    open_pack(paths, "train", DECODER, [folder])
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    damaged = DAMAGES[kind](whole)
    path.write_bytes(reseal(damaged, path.name, len(paths)) if sealed and len(damaged) > 200 else damaged)
    distributed._SAID.clear()
    open_pack(paths, "train", DECODER, [folder])
    told = capsys.readouterr().err
    if sealed and kind == "turned":  # as large as it was: what its checksum is for
        assert told == ""
        open_pack(paths, "train", DECODER, [folder], verify=True)
    else:
        assert told.count("\n") == 1 and told.startswith(f"{path}: damaged, it") or "the pictures in its table" in told
        assert told.endswith("; it is made anew\n")
    assert path.read_bytes() == whole


def test_flipped_pixels_are_found_when_that_is_asked_for(tmp_path, capsys):
    paths, folder = write_pictures(tmp_path), tmp_path / ".cnnlab"
    first = open_pack(paths, "train", DECODER, [folder]).pictures(24)[3].copy()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    begin = 16 + 32 * len(paths) + sum(3 * h * w for h, w in (resized_shape(h, w, 32) for w, h in SIZES[:3]))
    path.write_bytes(whole[:begin] + bytes([whole[begin] ^ 4]) + whole[begin + 1 :])
    distributed._SAID.clear()
    assert open_pack(paths, "train", DECODER, [folder]).find_damaged() == [3]
    assert capsys.readouterr().err == ""
    images = open_pack(paths, "train", DECODER, [folder], verify=True).pictures(24)
    assert capsys.readouterr().err == f"{path}: damaged, pixels of 3.png have changed; it is made anew\n"
    assert path.read_bytes() == whole and np.array_equal(images[3], first)


def test_a_pack_of_other_pictures_under_this_name_is_not_taken(tmp_path, capsys):
    for part, level in (("a", 0), ("b", 200)):
        (tmp_path / part).mkdir()
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / part / "1.png")
        open_pack([tmp_path / part / "1.png"], "train", DECODER, [tmp_path / part / ".cnnlab"])
    (ours,), (theirs,) = ((tmp_path / part / ".cnnlab").iterdir() for part in "ab")
    ours.write_bytes(theirs.read_bytes())
    distributed._SAID.clear()
    assert open_pack([tmp_path / "a" / "1.png"], "train", DECODER, [ours.parent]).pictures(24)[0].max() == 0
    assert "its table or its length is not what was written for these pictures" in capsys.readouterr().err


def test_a_damaged_pack_where_one_cannot_write_is_made_anew_elsewhere(tmp_path, monkeypatch):
    paths, folders = write_pictures(tmp_path), [tmp_path / "given", tmp_path / "own"]
    open_pack(paths, "train", DECODER, folders)
    (path,) = folders[0].iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "given" not in str(path) and access(path, mode))
    for _ in range(2):
        open_pack(paths, "train", DECODER, folders)
    assert len(list(folders[1].iterdir())) == 1


def test_the_mean_of_pixels_is_of_those_that_were_packed(tmp_path, capsys):
    """Without a mean of its own a dataset reads all pixels: they are held against their checksums on the way."""
    write_pictures(tmp_path / "a")
    write_pictures(tmp_path / "b")
    read = build_from(DATASETS, {"name": "image_folder", "root": str(tmp_path), "image_size": 8}).read
    whole = read("train").store.tensor.clone()
    (path,) = (tmp_path / ".cnnlab").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    assert torch.equal(read("train").store.tensor, whole) and path.read_bytes() == content
    assert "4.png have changed; it is made anew" in capsys.readouterr().err


# --- All or nothing -----------------------------------------------------------------------------------

ENDLESS = """
import sys, time
from pathlib import Path
from cnnlab.data.pack import open_pack
from cnnlab.data.pictures import PictureDecoder
class Slow(PictureDecoder):
    def decode(self, path):
        print(path, flush=True)
        if path.stem == "4":
            time.sleep(60)
        return super().decode(path)
folder = Path(sys.argv[1])
open_pack(sorted(folder.glob("*.png")), "train", Slow(24, 32), [folder / ".cnnlab"])
"""


def test_a_killed_process_leaves_what_the_next_one_removes(tmp_path):
    paths = write_pictures(tmp_path)
    (tmp_path / ".cnnlab").mkdir()
    (tmp_path / ".cnnlab" / ".train-99-rgb-0123456789abcdef.pack.partial").write_bytes(b"of a process long gone")
    env = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "4.png" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name[-8:] for name in packs(tmp_path)] == [".partial"]
    open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"])
    assert [name[-5:] for name in packs(tmp_path)] == [".pack"]


class Counting(PictureDecoder):
    """Remembers what it was asked to decode."""

    def __init__(self) -> None:
        super().__init__(image_size=24, resize=32)
        object.__setattr__(self, "decoded", [])

    def decode(self, path: Path) -> torch.Tensor:
        self.decoded.append(path)
        return super().decode(path)


def test_two_at_the_same_time_make_one_pack(tmp_path):
    paths, decoder = write_pictures(tmp_path, sizes=SIZES * 10), Counting()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: open_pack(paths, "train", decoder, [tmp_path / ".cnnlab"]), range(2)))
    assert sorted(decoder.decoded) == sorted(paths) and len(packs(tmp_path)) == 1
    assert all(np.array_equal(both[0].pictures(24)[k], both[1].pictures(24)[k]) for k in range(len(paths)))


def test_every_broken_picture_is_named_and_nothing_is_left(tmp_path):
    paths = write_pictures(tmp_path)
    paths[1].write_bytes(b"")
    paths[3].write_bytes(paths[3].read_bytes()[:200])  # its header is whole
    for _ in range(2):
        with pytest.raises(DataError, match=r"(?s)2 pictures cannot be decoded.*/1.png.*/3.png"):
            open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"])
        assert not (tmp_path / ".cnnlab").exists()


def test_broken_pictures_may_be_allowed(tmp_path):
    paths = write_pictures(tmp_path)
    whole = open_pack(paths, "train", DECODER, [tmp_path / "whole"]).pictures(24)
    paths[1].write_bytes(b"")
    opened = open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"], allow_broken=True)
    assert opened.broken == [1]
    assert all(np.array_equal(opened.pictures(24)[index], whole[index]) for index in (0, 2, 3, 4))
    with pytest.raises(DataError, match=r"1 picture cannot be decoded.*\n.*/1.png"):
        open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"])


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(DataError, match="none.png: cannot be decoded .*No such file"):
        open_pack([tmp_path / "none.png"], "train", DECODER, [tmp_path])


def test_the_disk_is_looked_at_first(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path, sizes=[(100, 100)] * 4)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 10**12 - 7 * 10**8, 7 * 10**8))
    decoder = PictureDecoder(image_size=10, resize=8000)
    with pytest.raises(
        StorageError, match=r"need 768\.0 MB, .* 67\.1 MB .* stay free, and 700\.0 MB are free.*dataset\.cache=FOLDER"
    ):
        open_pack(paths, "train", decoder, [tmp_path / ".cnnlab"])
    assert not (tmp_path / ".cnnlab").exists()


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device.*dataset.cache=FOLDER"):
        open_pack(write_pictures(tmp_path), "train", DECODER, [tmp_path / ".cnnlab"])
    assert not (tmp_path / ".cnnlab").exists()


# --- Where it lies ------------------------------------------------------------------------------------


def test_a_root_that_cannot_be_written_is_packed_into_the_users_cache(tmp_path, monkeypatch):
    root = tmp_path / "data"
    paths = write_pictures(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != root and access(path, mode))
    open_pack(paths, "train", DECODER, cache_folders(root, None))
    assert not (root / ".cnnlab").exists() and len(list((tmp_path / "mine" / "cnnlab").glob("data-*/*.pack"))) == 1


def test_a_pack_in_the_root_is_used_where_it_cannot_be_written(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path)
    folders = cache_folders(tmp_path, None)
    open_pack(paths, "train", DECODER, folders)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    open_pack(paths, "train", DECODER, folders)
    assert not folders[1].exists()


def test_a_folder_that_is_asked_for_keeps_datasets_apart(tmp_path):
    for name in ("a/train", "b/train"):
        paths = write_pictures(tmp_path / name)
        open_pack(paths, "train", DECODER, cache_folders(tmp_path / name, str(tmp_path / "cache")))
    assert len(list((tmp_path / "cache").glob("train-*/train-32-rgb-*.pack"))) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/.*: cannot be made"):
        open_pack(write_pictures(tmp_path), "train", DECODER, cache_folders(tmp_path, str(tmp_path / "file")))


def test_resize_leaves_room_for_what_is_cut_out():
    with pytest.raises(ConfigError, match="dataset.resize: 20 was given; expected at least dataset.image_size, 24"):
        PictureDecoder(image_size=24, resize=20)
