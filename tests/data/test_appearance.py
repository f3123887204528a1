"""Every mode that a file can have becomes the picture that it shows, held against one that is known."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab import distributed
from cnnlab.composition import CONF
from cnnlab.data.appearance import find_transform
from cnnlab.data.pack import open_pack
from cnnlab.data.pictures import PictureDecoder, read_picture, say_framed, take_framed
from cnnlab.errors import DataError
from tests.data.profiles import adobe_to_srgb, lab_to_srgb, write_adobe_rgb, write_grey, write_inks

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (12, 14, 3), dtype=np.uint8)
GREYS = RNG.integers(0, 256, (12, 14), dtype=np.uint8)


def read(path: Path, grey: bool = False) -> np.ndarray:
    image = read_picture(path, grey)
    return image[..., 0] if grey else image


def save(path: Path, picture: Image.Image, **given) -> Path:
    picture.save(path, **given)
    return path


# --- More than 8 bits ---------------------------------------------------------------------------------


def write_deep_png(path: Path, values: np.ndarray, transparent: bytes = b"") -> Path:
    """16 bits of grey (H, W), grey and alpha (…, 2), RGB (…, 3) or RGBA (…, 4)."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = values.astype(">u2").reshape(len(values), -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *([(b"tRNS", transparent)] if transparent else []), (b"IDAT", data), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content)
    return path


DEEP_GREY = np.linspace(0, 65535, 12 * 14).astype(np.uint16).reshape(12, 14)
DEEP_COLOURS = RNG.integers(0, 65536, (12, 14, 3), dtype=np.uint16)


def write_deep_tiff(path: Path, values: np.ndarray, byte_order: str) -> Path:
    """Uncompressed grey, whose kind of numbers is told by their type."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder(byte_order)).tobytes()
    mark = b"II*\0" if byte_order == "<" else b"MM\0*"
    height, width = values.shape
    bits = 8 * values.dtype.itemsize
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries += [(279, len(data)), (339, kind)]
    directory = struct.pack(byte_order + "H", len(entries))
    for tag, value in entries:
        directory += struct.pack(byte_order + "HHII", tag, 4, 1, value)
    path.write_bytes(mark + struct.pack(byte_order + "I", 8 + len(data)) + data + directory + bytes(4))
    return path


@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits_of_grey_are_scaled_by_their_range(tmp_path, grey):
    expected = (DEEP_GREY // 256).astype(np.uint8)
    assert expected.min() == 0 and expected.max() == 255 and len(np.unique(expected)) > 100
    paths = [
        write_deep_png(tmp_path / "a.png", DEEP_GREY),
        write_deep_tiff(tmp_path / "little.tif", DEEP_GREY, "<"),
        write_deep_tiff(tmp_path / "big.tif", DEEP_GREY, ">"),
    ]
    (tmp_path / "a.pgm").write_bytes(b"P5 14 12 65535\n" + DEEP_GREY.astype(">u2").tobytes())
    for path in [*paths, tmp_path / "a.pgm"]:
        image = read(path, grey)
        assert np.array_equal(image, expected if grey else np.repeat(expected[..., None], 3, 2)), path


def test_sixteen_bits_of_colour(tmp_path):
    assert np.array_equal(read(write_deep_png(tmp_path / "a.png", DEEP_COLOURS)), DEEP_COLOURS // 256)


def test_sixteen_bits_and_transparency(tmp_path):
    opaque = np.dstack([DEEP_GREY, np.full_like(DEEP_GREY, 65535)])
    opaque[:, ::2, 1] = 0
    expected = (DEEP_GREY // 256).astype(np.uint8)
    expected[:, ::2] = 255
    assert np.array_equal(read(write_deep_png(tmp_path / "alpha.png", opaque), grey=True), expected)
    value = int(DEEP_GREY[3, 3])
    expected = (DEEP_GREY // 256).astype(np.uint8)
    expected[3, 3] = 255
    path = write_deep_png(tmp_path / "colour.png", DEEP_GREY, struct.pack(">H", value))
    assert np.array_equal(read(path, grey=True), expected)


@pytest.mark.parametrize("kind", ["float32", "int32", "uint32"])
def test_numbers_without_a_range_are_refused_by_name(tmp_path, kind):
    path = write_deep_tiff(tmp_path / "depth.tif", GREYS.astype(kind), "<")
    with pytest.raises(DataError, match=r"depth.tif: cannot be decoded \(.*32 bits.*save it with 8 or 16 bits"):
        read(path)


def test_eight_bits_of_ppm_and_one_bit(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 14 12 255\n" + COLOURS.tobytes())
    assert np.array_equal(read(tmp_path / "a.ppm"), COLOURS)
    bits = Image.fromarray(GREYS).point(lambda level: 255 * (level > 127), mode="1")
    assert np.array_equal(read(save(tmp_path / "a.png", bits), grey=True), 255 * (GREYS > 127))


# --- Transparency -------------------------------------------------------------------------------------

ALPHA = RNG.integers(0, 256, (12, 14), dtype=np.uint8)
ON_WHITE = COLOURS * (ALPHA[..., None] / 255) + 255 * (1 - ALPHA[..., None] / 255)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_alpha_is_on_white(tmp_path, ending):
    picture = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    path = save(tmp_path / f"a.{ending}", picture, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    assert np.abs(read(path) - ON_WHITE).max() <= 1


def test_grey_and_alpha_is_on_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(np.dstack([GREYS, ALPHA]), "LA"))
    on_white = GREYS * (ALPHA / 255) + 255 * (1 - ALPHA / 255)
    assert np.abs(read(path, grey=True) - on_white).max() <= 1
    assert np.abs(read(path)[..., 1] - on_white).max() <= 1


@pytest.mark.parametrize("ending", ["png", "gif"])
@pytest.mark.parametrize("kind", ["index", "bytes"])
def test_a_palette_with_transparency_is_on_white_without_a_warning(tmp_path, kind, ending):
    picture = Image.new("P", (14, 12))
    picture.putpalette([10, 20, 30, 200, 100, 50, 7, 7, 7])
    picture.putdata([index % 3 for index in range(12 * 14)])
    levels = {"index": 1, "bytes": bytes([255, 0, 255])}[kind]
    path = save(tmp_path / f"a.{ending}", picture, transparency=1 if ending == "gif" else levels)
    colours = np.array([(10, 20, 30), (255, 255, 255), (7, 7, 7)])
    assert np.array_equal(read(path), colours[np.arange(12 * 14) % 3].reshape(12, 14, 3))


def test_one_transparent_colour_is_white(tmp_path):
    pixels = COLOURS.copy()
    pixels[2, 5] = (1, 2, 3)
    expected = pixels.copy()
    expected[2, 5] = 255
    path = save(tmp_path / "a.png", Image.fromarray(pixels), transparency=(1, 2, 3))
    assert np.array_equal(read(path), expected)


def test_pillow_says_nothing(tmp_path):
    """As a command would show it: in a process of its own."""
    picture = Image.fromarray(COLOURS).convert("P")
    picture.save(tmp_path / "a.png", transparency=bytes(range(256)))
    code = "import sys; from pathlib import Path; from cnnlab.data.pictures import read_picture as r; "
    code += "r(Path(sys.argv[1]), False); r(Path(sys.argv[1]), True)"
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True, check=True)
    assert done.stderr == ""


# --- CMYK ---------------------------------------------------------------------------------------------

# Smooth, for a JPEG: four inks that rise in different directions.
ROWS, COLUMNS = np.mgrid[0:64, 0:64]
INKS = np.stack([2 * ROWS, 2 * COLUMNS, 160 - ROWS - COLUMNS, ROWS // 2 + COLUMNS // 3], -1).astype(np.uint8)
SEEN = (255 - INKS[..., :3].astype(float)) * (255 - INKS[..., 3:].astype(float)) / 255


def to_jpeg(channels: np.ndarray) -> bytes:
    """A JPEG by Adobe's convention, of inks."""
    file = io.BytesIO()
    Image.fromarray(channels, "CMYK").save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def find_mark(content: bytes) -> int:
    """Where Adobe's segment begins."""
    return content.index(b"\xff\xee\x00\x0eAdobe")


def test_cmyk_of_adobe_and_of_others(tmp_path):
    content = to_jpeg(INKS)
    (tmp_path / "adobe.jpg").write_bytes(content)
    at = find_mark(to_jpeg(255 - INKS))
    plain = to_jpeg(255 - INKS)
    (tmp_path / "plain.jpg").write_bytes(plain[:at] + plain[at + 16 :])
    save(tmp_path / "a.tif", Image.fromarray(INKS, "CMYK"))
    for name, most in (("adobe.jpg", 4), ("plain.jpg", 4), ("a.tif", 1)):
        assert np.abs(read(tmp_path / name) - SEEN).max() <= most, name


def test_ycck(tmp_path):
    """Adobe's other kind: the inks, taken for red, green and blue, as luma and chroma."""
    as_colours = Image.fromarray(np.ascontiguousarray(INKS[..., :3])).convert("YCbCr")
    stored = np.dstack([np.asarray(as_colours), 255 - INKS[..., 3]])
    content = bytearray(to_jpeg(255 - stored))  # which writes the opposite
    content[find_mark(bytes(content)) + 15] = 2  # the transform: YCCK
    (tmp_path / "a.jpg").write_bytes(content)
    assert np.abs(read(tmp_path / "a.jpg") - SEEN).max() <= 6


def test_inks_under_a_profile(tmp_path):
    """The colours of paper, which is white, and of full inks are what the profile says, not what a formula says."""
    labs = {
        (c, m, y, k): (max(0, 100 - 40 * c - 45 * m - 8 * y - 70 * k), 70 * m - 30 * c, 80 * y - 40 * c)
        for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    }  # fmt: skip
    for inks in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 1, 0)):
        picture = Image.new("CMYK", (16, 16), tuple(255 * ink for ink in inks))
        path = save(tmp_path / "a.jpg", picture, quality=100, icc_profile=write_inks(labs))
        expected = lab_to_srgb(labs[inks])
        assert np.abs(read(path)[8, 8] - expected).max() <= 3, inks


# --- Profiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_a_wide_profile_is_followed(tmp_path, ending):
    smooth = np.stack([4 * ROWS, 4 * COLUMNS, 255 - 2 * ROWS - 2 * COLUMNS], -1).clip(0, 255).astype(np.uint8)
    given = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
    path = save(tmp_path / f"a.{ending}", Image.fromarray(smooth), icc_profile=write_adobe_rgb(), **given)
    expected = adobe_to_srgb(smooth)
    assert np.abs(expected - smooth).max() > 30
    inside = ((expected > 8) & (expected < 247)).all(-1)  # of colours that sRGB has
    differences = np.abs(read(path) - expected)[inside]
    assert differences.mean() <= 1 and differences.max() <= (12 if ending == "jpg" else 2)


def test_alpha_under_a_profile(tmp_path):
    picture = Image.new("RGBA", (4, 4), (200, 60, 60, 0))
    picture.putpixel((1, 1), (100, 120, 90, 255))
    image = read(save(tmp_path / "a.png", picture, icc_profile=write_adobe_rgb()))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert np.abs(image[1, 1] - adobe_to_srgb(np.array([100, 120, 90]))).max() <= 2


def test_grey_under_a_profile(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(GREYS), icc_profile=write_grey(1.8))
    linear = (GREYS / 255) ** 1.8
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(read(path, grey=True) - expected).max() <= 2
    assert np.abs(read(path)[..., 2] - expected).max() <= 2


def test_the_profile_of_srgb_and_one_that_is_none_change_nothing(tmp_path):
    from PIL import ImageCms

    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (own, b"no profile at all", write_adobe_rgb()[:200], write_grey(1.0)):
        path = save(tmp_path / "a.png", Image.fromarray(COLOURS), icc_profile=profile)
        assert np.array_equal(read(path), COLOURS)
    assert find_transform(own, "RGB") is None


# --- Orientation and frames ---------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path, orientation, ending):
    """As a viewer would turn it: rows and columns of the stored picture, by their place in the upright one."""
    stored = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](COLOURS)  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    given = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **given)
    assert np.array_equal(read(path), COLOURS)
    assert read_picture(path, grey=False, shorter=6).shape == (6, 7, 3)
    assert PictureDecoder(6, 6).measure(path) == 42


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_the_first_of_many_frames_and_a_word_about_it(tmp_path, ending, capsys):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    paths = [tmp_path / f"{number}.{ending}" for number in range(3)]
    for path in paths:
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    still = save(tmp_path / f"still.{ending}", frames[1], **({"lossless": True} if ending == "webp" else {}))
    distributed._SAID.clear()
    take_framed()
    images = open_pack([*paths, still], "train", PictureDecoder(8), [tmp_path / "cache"]).squares(8)
    assert images[0][0, 0].tolist() == [255, 0, 0] and images[3][0, 0].tolist() == [0, 255, 0]
    say_framed(take_framed())
    say_framed(paths)
    told = capsys.readouterr().err
    assert told.count("files with several frames, of which the first is taken (3): ") == 1 and "still" not in told


def test_a_long_thin_picture_is_refused_before_memory_is_asked_for(tmp_path):
    path = save(tmp_path / "line.png", Image.new("L", (60_000, 1)))
    for attempt in (lambda: read_picture(path, False, 256), lambda: PictureDecoder(256, 256).measure(path)):
        with pytest.raises(DataError, match="60000×1 pixels become 15360000×256, more than 134,217,728"):
            attempt()
