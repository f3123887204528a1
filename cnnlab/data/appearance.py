"""What a picture file looks like, whatever it holds: 8 bits of grey or of sRGB.

- **More than 8 bits** are scaled by the range of their type: of 16 the upper eight stay, for grey as for colours, so
  that 0 is black and 65,535 white. Numbers of 32 bits, whole or not, have no range that one could know: they are
  refused.
- **Transparency** is put on white, as on a page.
- **An ICC profile** is followed, of CMYK colours too: they become sRGB, in which cnnlab, like most pretrained networks,
  takes all pictures to be. One that moves no colour by more than two levels, as that of sRGB, is passed over, and so is
  one that is damaged or of another kind of colours.
- **CMYK without a profile** becomes (255 - C)·(255 - K) / 255 and so on. A JPEG that has Adobe's mark holds
  the opposite of each ink (and so does one with YCCK, that can have it only so), others the inks.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageChops

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
JPEGS = ("JPEG", "MPO")
SAME = 2  # levels


def show(picture: Image.Image, grey: bool) -> Image.Image:
    """The picture in mode L or RGB; itself where it is that already. Raises ValueError where nobody can know."""
    mode, info = "L" if grey else "RGB", picture.info
    profile = info.get("icc_profile")
    # Pillow before 11 has numbers of 16 bits in 32.
    if picture.mode in SIXTEEN_BITS or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        picture = keep_upper_bits(picture, info.get("transparency"))
    elif picture.mode in ("I", "F"):
        kind = "whole numbers of 32 bits" if picture.mode == "I" else "fractions of 32 bits"
        raise ValueError(f"it holds {kind}, whose black and white nobody can know; save it with 8 or 16 bits")
    elif picture.mode == "CMYK" and picture.format in JPEGS and "adobe" not in info:
        picture = ImageChops.invert(picture)  # Pillow takes each for Adobe's
    elif picture.mode in WITH_ALPHA or "transparency" in info:
        return put_on_white(picture, profile).convert(mode)
    if profile:
        picture = follow_profile(picture, profile)
    return picture if picture.mode == mode else picture.convert(mode)


def keep_upper_bits(picture: Image.Image, transparent: int | None) -> Image.Image:
    """Grey of 16 bits as 8; the value that is `transparent`, if one is, white."""
    values = np.asarray(picture)
    upper = (values >> 8).astype(np.uint8)
    if transparent is not None:
        upper[values == transparent] = 255
    return Image.fromarray(upper)


def put_on_white(picture: Image.Image, profile: bytes | None) -> Image.Image:
    layer = picture.convert("RGBA")
    if profile:
        colours = follow_profile(layer.convert("RGB"), profile)
        colours.putalpha(layer.getchannel("A"))
        layer = colours
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


# --- Profiles -----------------------------------------------------------------------------------------


def follow_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB, or as it is where its profile says so or makes no sense."""
    if picture.mode == "P":
        picture = picture.convert("RGB")
    transform = find_transform(profile, picture.mode)
    return picture if transform is None else transform.apply(picture)


@lru_cache(32)  # the pictures of a camera have the same one
def find_transform(profile: bytes, mode: str) -> Any | None:
    """What takes colours of a profile to sRGB; None if it leaves them as they are, or there is no such thing."""
    try:
        from PIL import ImageCms

        wanted = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            wanted,
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # Pillow without LittleCMS, or whatever a damaged profile makes of it
        return None
    if mode == "CMYK":
        return transform
    samples = sample_colours(mode)
    moved = np.abs(np.asarray(transform.apply(samples), np.int16) - np.asarray(samples.convert("RGB"), np.int16))
    return None if moved.max() <= SAME else transform


def sample_colours(mode: str) -> Image.Image:
    """All greys, or 17 levels of each colour with all of the others."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 17).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1)  # (17, 17, 17, 3)
    return Image.fromarray(grid.reshape(17, -1, 3))
