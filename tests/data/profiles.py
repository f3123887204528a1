"""ICC profiles made from their definition, and what colours they are of, reckoned without a colour engine."""

from __future__ import annotations

import struct

import numpy as np

# Columns are the primaries and rows X, Y, Z, at D50, as the standards' own profiles round them.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
D50 = (0.9642, 1.0, 0.8249)
ADOBE_GAMMA = 563 / 256


def fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def write_profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of version 2.1: header, table of tags, tags."""
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, kind, space, pcs) + bytes(12) + b"acsp"
    header += bytes(4 * 7) + b"".join(map(fixed, D50))
    return header.ljust(128, b"\0") + table + body


def describe(text: bytes) -> bytes:
    return b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(8) + bytes(3 + 67)


def write_adobe_rgb() -> bytes:
    tags = {b"desc": describe(b"wide"), b"wtpt": b"XYZ " + bytes(4) + b"".join(map(fixed, D50))}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE_RGB.T, strict=True):
        tags[name] = b"XYZ " + bytes(4) + b"".join(map(fixed, column))
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(ADOBE_GAMMA * 256))
    return write_profile(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def write_grey(gamma: float) -> bytes:
    tags = {
        b"desc": describe(b"grey"),
        b"wtpt": b"XYZ " + bytes(4) + b"".join(map(fixed, D50)),
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)),
    }
    return write_profile(b"mntr", b"GRAY", b"XYZ ", tags)


def write_inks(labs: dict[tuple[int, int, int, int], tuple[float, float, float]]) -> bytes:
    """Of four inks: `labs` has the colour in Lab of each of the sixteen combinations of no ink and full ink."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    grid = b"".join(bytes([round(L * 2.55), round(a + 128), round(b + 128)]) for L, a, b in map(labs.get, corners))
    ramp = bytes(range(256))
    unity = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unity + ramp * 4 + grid + ramp * 3
    tags = {
        b"desc": describe(b"inks"),
        b"wtpt": b"XYZ " + bytes(4) + b"".join(map(fixed, D50)),
        b"A2B0": table,
        b"A2B1": table,
    }
    return write_profile(b"prtr", b"CMYK", b"Lab ", tags)


# --- Reckoned ---------------------------------------------------------------------------------------------


def to_srgb(xyz: np.ndarray) -> np.ndarray:
    """XYZ (..., 3) at D50 → levels of sRGB, not rounded."""
    linear = (xyz @ np.linalg.inv(SRGB).T).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def adobe_to_srgb(levels: np.ndarray) -> np.ndarray:
    return to_srgb((levels / 255.0) ** ADOBE_GAMMA @ ADOBE_RGB.T)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    L, a, b = np.moveaxis(np.asarray(lab, float), -1, 0)
    f = np.stack([(L + 16) / 116 + a / 500, (L + 16) / 116, (L + 16) / 116 - b / 200], -1)
    return to_srgb(np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50)
