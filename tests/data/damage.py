"""Damaged files: every way in which a disk, a download or a stranger changes bytes, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

FEW, MANY = 60, 1500  # damages of a file: in the suite, and under -m slow


def flip_bit(content: bytearray, random: Random) -> None:
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def cut_off(content: bytearray, random: Random) -> None:
    del content[random.randrange(len(content)) :]


def cut_out(content: bytearray, random: Random) -> None:
    start = random.randrange(len(content))
    del content[start : start + random.randint(1, 16)]


def append(content: bytearray, random: Random) -> None:
    content += random.randbytes(random.choice((1, 7, 4096)))


def insert(content: bytearray, random: Random) -> None:
    at = random.randrange(len(content))
    content[at:at] = random.randbytes(random.randint(1, 16))


def clear(content: bytearray, random: Random) -> None:
    """As a power cut leaves a block."""
    start, length = random.randrange(len(content)), random.choice((8, 64, 512))
    content[start : start + length] = bytes(len(content[start : start + length]))


def overwrite(content: bytearray, random: Random) -> None:
    start = random.randrange(len(content))
    content[start : start + 8] = random.choice((b"\xff" * 8, random.randbytes(8)))[: len(content) - start]


def swap(content: bytearray, random: Random) -> None:
    length = max(1, min(32, len(content) // 3))
    first = random.randrange(len(content) - 2 * length + 1)
    second = random.randrange(first + length, len(content) - length + 1)
    content[first : first + length], content[second : second + length] = (
        content[second : second + length],
        content[first : first + length],
    )


KINDS: tuple[Callable[[bytearray, Random], None], ...] = (
    flip_bit, flip_bit, cut_off, cut_out, append, insert, clear, overwrite, swap,
)  # fmt: skip


def damage(content: bytes, num: int, seed: int = 0) -> Iterator[bytes]:
    """The content damaged in `num` ways, none of which leaves it as it was; an empty file comes first."""
    random = Random(seed)
    yield b""
    made = 1
    while made < num:
        changed = bytearray(content)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            if len(changed) > 2:
                random.choice(KINDS)(changed, random)
        if changed != content:
            yield bytes(changed)
            made += 1
