"""Plain pictures have Pillow's pixels, and everything else is left to Pillow, whether it reads it or refuses it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from cnnlab.data import decoders
from cnnlab.data.pictures import read_picture
from cnnlab.errors import DataError

pytest.importorskip("simplejpeg")
pytest.importorskip("pyspng")

# Some structure and some noise, of odd width and height.
ROWS, COLUMNS = np.mgrid[:61, :83]
PIXELS = np.stack([ROWS * 4, COLUMNS * 3, (ROWS * COLUMNS) % 256], -1).astype(np.uint8)
PIXELS ^= np.random.default_rng(0).integers(0, 32, PIXELS.shape, dtype=np.uint8)
COLOUR, GREY = Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0])

JPEGS = {
    **{f"4:4:4, 4:2:2 or 4:2:0: {kind}": (COLOUR, {"subsampling": kind}) for kind in range(3)},
    "of low quality": (COLOUR, {"quality": 20}),
    "progressive": (COLOUR, {"progressive": True}),
    "with restarts": (COLOUR, {"restart_marker_rows": 1}),
    "grey": (GREY, {}),
    "in RGB": (COLOUR, {"keep_rgb": True}),
    "a single pixel": (COLOUR.crop((0, 0, 1, 1)), {}),
}
TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6
LEFT_TO_PILLOW = {
    "CMYK": (COLOUR.convert("CMYK"), {}),
    "turned": (COLOUR, {"exif": TURNED}),
}


def encode(picture: Image.Image, kind: str, **settings: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def read_twice(
    folder: Path, content: bytes, monkeypatch, grey: bool = False, shorter: int | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """By the fast decoders and by Pillow alone, and how many of the two were read by a fast one."""
    path = folder / "picture"
    path.write_bytes(content)
    decoded = []
    with monkeypatch.context() as patch:
        for name in ("decode_plain_jpeg", "decode_plain_png"):
            decode = getattr(decoders, name)

            def count(*arguments, decode=decode):
                image = decode(*arguments)
                decoded.extend([image] if image is not None else [])
                return image

            patch.setattr(f"cnnlab.data.pictures.{name}", count)
        fast = read_picture(path, grey, shorter)
    with monkeypatch.context() as patch:
        patch.setattr(decoders, "simplejpeg", None)
        patch.setattr(decoders, "pyspng", None)
        slow = read_picture(path, grey, shorter)
    return fast, slow, len(decoded)


@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_have_pillows_pixels(tmp_path, monkeypatch, name):
    picture, settings = JPEGS[name]
    content = encode(picture, "JPEG", **({"quality": 90} | settings))
    fast, slow, num_fast = read_twice(tmp_path, content, monkeypatch, grey=picture.mode == "L")
    assert np.array_equal(fast, slow) and num_fast == 1


@pytest.mark.parametrize("name", [name for name in JPEGS if name != "a single pixel"])
@pytest.mark.parametrize("times", [9, 17])
def test_large_jpegs_are_decoded_to_a_part_of_their_size_to_the_same_pixels(tmp_path, monkeypatch, name, times):
    """A half and a quarter: see `read_picture`. The sizes are odd."""
    picture, settings = JPEGS[name]
    content = encode(picture, "JPEG", **({"quality": 90} | settings))
    shorter = 61 // times
    fast, slow, num_fast = read_twice(tmp_path, content, monkeypatch, picture.mode == "L", shorter)
    assert np.array_equal(fast, slow) and num_fast == 1 and min(fast.shape[:2]) == shorter


@pytest.mark.parametrize("name", LEFT_TO_PILLOW)
def test_other_jpegs_are_left_to_pillow(tmp_path, monkeypatch, name):
    picture, settings = LEFT_TO_PILLOW[name]
    fast, slow, num_fast = read_twice(tmp_path, encode(picture, "JPEG", **settings), monkeypatch)
    assert np.array_equal(fast, slow) and num_fast == 0


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("picture", [COLOUR, GREY], ids=["colour", "grey"])
def test_only_the_colours_that_are_wanted_are_plain(tmp_path, monkeypatch, picture, grey):
    for kind in ("JPEG", "PNG"):
        fast, slow, num_fast = read_twice(tmp_path, encode(picture, kind), monkeypatch, grey)
        assert np.array_equal(fast, slow) and num_fast == ((picture.mode == "L") == grey)


def test_pngs_have_pillows_pixels(tmp_path, monkeypatch):
    fast, slow, num_fast = read_twice(tmp_path, encode(COLOUR, "PNG", dpi=(72, 72)), monkeypatch)
    assert np.array_equal(fast, PIXELS) and np.array_equal(slow, PIXELS) and num_fast == 1


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "I;16"])
def test_other_pngs_are_left_to_pillow(tmp_path, monkeypatch, mode):
    picture = COLOUR.convert("L").convert("I").convert("I;16") if mode == "I;16" else COLOUR.convert(mode)
    fast, slow, num_fast = read_twice(tmp_path, encode(picture, "PNG"), monkeypatch)
    assert np.array_equal(fast, slow) and num_fast == 0


def test_a_transparent_colour_is_left_to_pillow(tmp_path, monkeypatch):
    content = encode(COLOUR, "PNG", transparency=tuple(PIXELS[0, 0].tolist()))
    fast, slow, num_fast = read_twice(tmp_path, content, monkeypatch)
    assert np.array_equal(fast, slow) and fast[0, 0].tolist() == [255, 255, 255] and num_fast == 0


def test_a_profile_is_left_to_pillow(tmp_path, monkeypatch):
    profile = pytest.importorskip("PIL.ImageCms").ImageCmsProfile
    from PIL import ImageCms

    icc = profile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG"):
        fast, slow, num_fast = read_twice(tmp_path, encode(COLOUR, kind, icc_profile=icc), monkeypatch)
        assert np.array_equal(fast, slow) and num_fast == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_is_cut_short_is_refused_by_pillows_word(tmp_path, kind):
    content = encode(COLOUR, kind)
    for end in range(20, len(content) - 20, max(1, len(content) // 40)):
        (tmp_path / "picture").write_bytes(content[:end])
        with pytest.raises(DataError, match="cannot be decoded"):
            read_picture(tmp_path / "picture", grey=False)


def test_what_pillow_reads_nonetheless_is_read(tmp_path, monkeypatch):
    content = encode(COLOUR, "JPEG") + b"more"
    fast, slow, _ = read_twice(tmp_path, content, monkeypatch)
    assert np.array_equal(fast, slow)
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "made by hand")
    fast, slow, num_fast = read_twice(tmp_path, encode(COLOUR, "PNG", pnginfo=note), monkeypatch)
    assert np.array_equal(fast, slow) and num_fast == 0
