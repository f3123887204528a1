"""Pictures packed as JPEGs: the same batches but for what JPEG loses, as exact and as whole as packed pixels."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from cnnlab.data import DATASETS, decoders
from cnnlab.data import pack as pack_module
from cnnlab.data import pictures as pictures_module
from cnnlab.data.pack import open_pack
from cnnlab.data.pictures import PictureDecoder, Pictures, read_pictures
from cnnlab.data.store import Packed, PackedJpegs
from cnnlab.errors import ConfigError, DataError, StorageError
from cnnlab.runs.start import resume, start
from tests.conftest import build_from, small_config
from tests.data.files import write_photographs
from tests.runs.test_resume import assert_same_end

DECODER = PictureDecoder(image_size=24, resize=32, pack="jpeg")


def write_pictures(folder: Path, mode: str = "RGB") -> list[Path]:
    """Smooth ones, of several sizes, as photographs are."""
    paths = []
    for number, (width, height) in enumerate([(40, 50), (30, 90), (64, 48), (32, 32)]):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([2 * rows, 255 - 3 * columns, 100 + 20 * np.sin(rows / 9 + number)], -1).clip(0, 255)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(paths[-1])
    return paths


def open_both(folder: Path, decoder: PictureDecoder = DECODER) -> tuple[Packed, Packed]:
    """Of JPEGs, and of pixels."""
    paths = write_pictures(folder)
    packs = [open_pack(paths, "train", each, [folder / ".cnnlab"]) for each in (decoder, replace(decoder, pack="raw"))]
    jpegs, pixels = (pack.pictures(24) for pack in packs)
    assert isinstance(jpegs, PackedJpegs) and not isinstance(pixels, PackedJpegs)
    return jpegs, pixels


@pytest.mark.parametrize("grey", [False, True])
def test_batches_are_those_of_pixels_but_for_what_jpeg_loses(tmp_path, grey):
    jpegs, pixels = open_both(tmp_path, replace(DECODER, grey=grey))
    chosen = torch.tensor([3, 0, 2])
    assert torch.equal(jpegs.sizes(chosen), pixels.sizes(chosen))
    for take in (lambda store: store.take_centres(chosen), lambda store: store.select(chosen).join(store)[4]):
        ours, theirs = (torch.as_tensor(take(store)).int() for store in (jpegs, pixels))
        assert ours.shape == theirs.shape and ours.shape[-1] == (1 if grey else 3)
        assert (ours - theirs).abs().float().mean() < 1
    both = jpegs.join(jpegs)
    assert torch.equal(both.take_centres(chosen + 4, 3), jpegs.take_centres(chosen))


def test_simplejpeg_and_pillow_give_the_same_pixels(tmp_path, monkeypatch):
    pytest.importorskip("simplejpeg")
    jpegs, _ = open_both(tmp_path)
    fast = [jpegs[index] for index in range(4)]
    monkeypatch.setattr(decoders, "simplejpeg", None)
    assert all(np.array_equal(jpegs[index], image) for index, image in enumerate(fast))


def test_flipped_bytes_are_found_when_that_is_asked_for(tmp_path, capsys):
    open_both(tmp_path)
    (path,) = (tmp_path / ".cnnlab").glob("*-jpeg-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-60] + bytes([whole[-60] ^ 1]) + whole[-59:])
    paths = sorted(tmp_path.glob("*.png"))
    open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"], verify=True)
    assert "3.png have changed; it is made anew" in capsys.readouterr().err and path.read_bytes() == whole


def test_one_that_is_cut_short_is_made_anew(tmp_path, capsys):
    open_both(tmp_path)
    (path,) = (tmp_path / ".cnnlab").glob("*-jpeg-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    open_pack(sorted(tmp_path.glob("*.png")), "train", DECODER, [tmp_path / ".cnnlab"])
    assert "its table or its length is not what was written" in capsys.readouterr().err and path.read_bytes() == whole


@pytest.mark.parametrize("name", ["simplejpeg", "Pillow"])
def test_a_damaged_jpeg_is_told_when_it_is_asked_for(tmp_path, monkeypatch, name):
    if name == "Pillow":
        monkeypatch.setattr(decoders, "simplejpeg", None)
    else:
        pytest.importorskip(name)
    open_both(tmp_path)
    (path,) = (tmp_path / ".cnnlab").glob("*-jpeg-*")
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(200))
    jpegs = open_pack(sorted(tmp_path.glob("*.png")), "train", DECODER, [tmp_path / ".cnnlab"]).pictures(24)
    with pytest.raises(DataError, match="JPEG 3 of the packed pictures is damaged"):
        jpegs.take_centres(torch.tensor([0, 3]), 2)


def test_broken_pictures_are_named_or_left_out(tmp_path):
    paths = write_pictures(tmp_path)
    paths[1].write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png"):
        open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"])
    assert not list(tmp_path.glob(".cnnlab/*"))
    pictures = Pictures(tuple(paths), tuple("abcd"), (0, 1, 0, 1))
    images = read_pictures(pictures, "train", DECODER, [tmp_path / ".cnnlab"], "skip")
    assert images.labels.tolist() == [0, 0, 1] and len(images.store) == 3
    assert images.store.take_centres(torch.arange(3)).float().std() > 10


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path)

    def fail(pixels):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures_module, "encode_jpeg", fail)
    with pytest.raises(StorageError, match="No space left"):
        open_pack(paths, "train", DECODER, [tmp_path / ".cnnlab"])
    assert not list(tmp_path.glob(".cnnlab/*"))


# Pixels of valid alone fit in half of 100,000 bytes, those of both parts in half of a terabyte.
@pytest.mark.parametrize(("free", "kind"), [(1 << 40, Packed), (100_000, PackedJpegs)])
def test_auto_goes_by_the_room_for_all_parts_and_stays_with_what_is_there(tmp_path, monkeypatch, free, kind):
    for part, copies in (("train", 8), ("valid", 1)):
        for label in "ab":
            for copy in range(copies):
                folder = tmp_path / part / label
                folder.mkdir(parents=True, exist_ok=True)
                for path in write_pictures(folder):
                    path.rename(folder / f"{copy}_{path.name}")
    usage = namedtuple("usage", "total used free")
    given = {"name": "image_folder", "root": str(tmp_path), "image_size": 24, "resize": 32, "pack": "auto"}

    def read() -> list[Packed]:
        dataset = build_from(DATASETS, given)
        return [dataset.read(part).store for part in ("valid", "train")]

    with monkeypatch.context() as patch:
        patch.setattr(pack_module.shutil, "disk_usage", lambda path: usage(free, 0, free))
        valid, train = read()
    assert type(valid) is type(train) is kind
    assert len(train.join(valid)) == 8 * 8 + 8  # as the final fit and folds do
    assert [type(store) for store in read()] == [kind, kind]  # though there is room by now


@pytest.mark.parametrize("grey", [False, True])
def test_jpegs_of_the_size_wanted_are_kept_as_they_are(tmp_path, monkeypatch, grey):
    first, _, _, last = write_pictures(tmp_path, "L" if grey else "RGB")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    paths = [tmp_path / f"{name}.jpg" for name in ("small", "large", "turned", "with more at its end")]
    for path, source, exif in zip(paths, (last, first, last, last), (None, None, turned, None), strict=True):
        Image.open(source).save(path, quality=60, **({} if exif is None else {"exif": exif}))
    paths[3].write_bytes(paths[3].read_bytes()[:-2] + bytes(7) + b"\xff\xd9")  # on which libjpeg remarks
    decoder = replace(DECODER, grey=grey)
    pack = open_pack(paths, "train", decoder, [tmp_path / ".cnnlab"])
    content = next((tmp_path / ".cnnlab").iterdir()).read_bytes()
    kept = [path.read_bytes() in content for path in paths]
    assert kept == [True, False, False, True]
    for fast in (True, False):
        if not fast:
            monkeypatch.setattr(decoders, "simplejpeg", None)
        images = pack.pictures(24)
        for number in (0, 3):
            assert np.array_equal(images[number], decoder.decode(paths[number]))


def test_squares_are_kept_as_pixels():
    with pytest.raises(ConfigError, match=r"dataset.pack: jpeg was given without dataset.resize"):
        PictureDecoder(image_size=24, pack="jpeg")
    assert PictureDecoder(image_size=24, pack="auto").settle({}, []).pack == "raw"


def test_a_run_goes_on_bit_for_bit(tmp_path):
    root = tmp_path / "photographs"
    write_photographs(root, 40, 50, 40)
    given = [
        *("dataset=image_folder", f"dataset.root={root}", "dataset.image_size=24", "dataset.resize=32"),
        *("dataset.pack=jpeg", "augment=resized_crop", "batch_size=8", "engine.checkpoint_every=3 steps"),
    ]
    whole = start(small_config(tmp_path / "whole", *given, "steps=7"), [])
    begun = start(small_config(tmp_path / "begun", *given, "steps=5"), [])
    resume(str(begun.path), ["steps=7"])
    assert_same_end(begun, whole)
    assert any("-jpeg-" in path.name for path in (root / ".cnnlab").iterdir())
