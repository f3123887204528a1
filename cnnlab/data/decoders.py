"""Plain JPEGs and PNGs, by decoders that do less than Pillow: the same pixels in less time, small PNGs in half of it.

simplejpeg and pyspng come with `pip install "cnnlab[decoders]"`. A picture is plain if nothing has to be done to its
pixels: no profile, no turn, no transparency, 8 bits of the colours that are wanted. What is not plain, and what these
decoders refuse, is Pillow's, whose word counts.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from zlib import crc32

import numpy as np
from PIL import ExifTags, Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None
try:
    import pyspng
except ImportError:
    pyspng = None

PNG = b"\x89PNG\r\n\x1a\n"  # how one begins
HEADER = slice(16, 26)  # of a PNG: width and height in four bytes each, depth, colours
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tIME"}
GREY, RGB = 0, 2  # as a PNG numbers its colours
UPRIGHT = 1  # of the orientations


def decode_plain_jpeg(content: bytes, picture: Image.Image, grey: bool) -> np.ndarray | None:
    """uint8 (H, W, 1 or 3) of a JPEG that Pillow has opened and not loaded; None if Pillow has to.

    Of the size that the picture has, which may be a half, a quarter or an eighth of that in the file: see Image.draft.
    """
    if simplejpeg is None or not is_plain_jpeg(picture, grey):
        return None
    width, height = picture.size
    with suppress(ValueError):  # for each remark of libjpeg's, such as that the file ends too early
        image = np.asarray(
            simplejpeg.decode_jpeg(content, "GRAY" if grey else "RGB", min_height=height, min_width=width)
        )
        if image.shape[:2] == (height, width):
            return image
    return None


def is_plain_jpeg(picture: Image.Image, grey: bool) -> bool:
    """Whether an open picture is a JPEG whose decoded pixels are what is wanted."""
    if (picture.format, picture.mode) != ("JPEG", "L" if grey else "RGB") or "icc_profile" in picture.info:
        return False
    return picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT


def decode_plain_png(content: bytes, chunks: list[bytes], grey: bool) -> np.ndarray | None:
    """The same of a PNG whose `chunks` are sound, which pyspng does not look at: see `list_chunks`."""
    if pyspng is None or not set(chunks) <= PLAIN_CHUNKS:
        return None
    header = content[HEADER]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    limit = Image.MAX_IMAGE_PIXELS
    if tuple(header[8:10]) != (8, GREY if grey else RGB) or (limit and width * height > limit):
        return None
    with suppress(RuntimeError):
        return np.asarray(pyspng.load(content)).reshape(height, width, -1)
    return None


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 1 or 3) at quality 95 and full resolution of its colours: off by a level or two on average."""
    file = BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def decode_jpeg(content: np.ndarray, grey: bool) -> np.ndarray:
    """Of a plain JPEG uint8 (H, W, 1 or 3); the same pixels by simplejpeg and by Pillow. Raises OSError."""
    if simplejpeg is not None:
        with suppress(ValueError):  # Pillow may read what libjpeg remarks on
            return np.asarray(simplejpeg.decode_jpeg(content, "GRAY" if grey else "RGB"))
    with Image.open(BytesIO(content.tobytes())) as picture:
        return np.array(picture).reshape(picture.height, picture.width, -1)


def list_chunks(content: bytes) -> list[bytes]:
    """The kinds of a PNG's chunks. Raises ValueError if one is not what its checksum is of.

    Pillow passes over those of compressed pixels, and takes what it gets of a stream that is damaged near its end.
    """
    kinds: list[bytes] = []
    start = len(PNG)
    while start + 12 <= len(content) and kinds[-1:] != [b"IEND"]:
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        kind, checksum = content[start + 4 : start + 8], content[end : end + 4]
        if kind != b"IEND" and crc32(memoryview(content)[start + 4 : end]).to_bytes(4, "big") != checksum:
            raise ValueError(f"its chunk {kind!r} is not what the checksum after it is of")
        kinds.append(kind)
        start = end + 4
    return kinds
