"""Odd data sets, as users have them: each function writes one, and says what is right to read of it or to refuse.

Names and levels of grey are drawn from a seed. A picture is of one level, by which it is known again.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.data.files import write_photographs  # noqa: F401  (kept beside: real noise)
from tests.data.profiles import adobe_to_srgb, write_adobe_rgb

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


@dataclass
class Read:
    """What is right: of each id in "train" its class and its level of grey, or three levels; what stderr tells."""

    train: dict[str, tuple[str, object]]
    told: str = ""
    parts: dict[str, int] = field(default_factory=dict)  # sizes of the others
    unlabelled: tuple[str, ...] | None = None
    tolerance: int = 0


@dataclass
class Refused:
    """A DataError with these words, when the dataset is built or read."""

    words: str


Outcome = Read | Refused
ODD: dict[str, Callable[[Path, Random], tuple[dict[str, object], Outcome]]] = {}


def odd(write: Callable) -> Callable:
    ODD[write.__name__] = write
    return write


def save(path: Path, level: object = 0, size: tuple[int, int] = (8, 8), **given) -> Path:
    """A PNG unless the ending says something else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = level if isinstance(level, tuple) else (level,) * 3
    kind = given.pop("format", None if path.suffix.lower() in Image.registered_extensions() else "PNG")
    Image.new("RGB", size, colour).save(path, format=kind, **given)
    return path


def plain(root: Path, random: Random, prefix: str = "", num: int = 2) -> dict[str, tuple[str, object]]:
    """Two classes with some pictures in folders; what they are."""
    found = {}
    for name in sorted(random.sample(CLASSES, 2)):
        for number in range(random.randint(num, num + 3)):
            level = random.randrange(256)
            save(root / prefix / name / f"{number}.png", level)
            found[f"{prefix}{name}/{number}.png"] = (name, level)
    return found


def first_class(train: dict[str, tuple[str, object]]) -> str:
    return next(iter(train.values()))[0]


def with_file(random: Random, root: Path, name: str, write: Callable[[Path], object]) -> tuple[dict, str]:
    """A plain data set with one file more in its first class; that file's id."""
    train = plain(root, random)
    folder = root / first_class(train)
    write(folder / name)
    return train, f"{folder.name}/{name}"


FOLDER: dict[str, object] = {"name": "image_folder", "image_size": 8}


def folder(root: Path, **given: object) -> dict[str, object]:
    return {**FOLDER, "root": str(root), **given}


# --- Trees --------------------------------------------------------------------------------------------


@odd
def nothing_odd(root, random):
    return folder(root), Read(plain(root, random))


@odd
def folders_in_classes(root, random):
    train = plain(root, random)
    name = first_class(train)
    for where in ("more", "more/deep"):
        level = random.randrange(256)
        save(root / name / where / "x.png", level)
        train[f"{name}/{where}/x.png"] = (name, level)
    return folder(root), Read(train)


@odd
def hidden_copies(root, random):
    train = plain(root, random)
    name = first_class(train)
    save(root / name / ".ipynb_checkpoints" / "0-checkpoint.png")
    (root / name / "._0.png").write_bytes(b"\0\x05\x16\x07")
    (root / name / ".DS_Store").write_bytes(b"\0\0\0\x01Bud1")
    save(root / ".cache" / "1.png")
    return folder(root), Read(train)


@odd
def windows_clutter(root, random):
    train, _ = with_file(random, root, "Thumbs.db", Path.touch)
    return folder(root), Read(train)


@odd
def an_empty_class(root, random):
    train = plain(root, random)
    (root / "zebra").mkdir()
    return folder(root), Read(train, told=r"folders without a picture are no class \(1\): zebra")


@odd
def one_class(root, random):
    save(root / random.choice(CLASSES) / "1.png")
    return folder(root), Refused(r"one class only \(1\)")


@odd
def a_folder_too_high(root, random):
    plain(root, random, "download/")
    return folder(root), Refused(r"one class only \(1\): download")


@odd
def no_class(root, random):
    save(root / "1.png")
    return folder(root), Refused("no sub-folder holds a picture")


@odd
def classes_of_another_case(root, random):
    train = plain(root, random)
    save(root / first_class(train).upper() / "1.png")
    return folder(root), Refused(r"differ in case, spaces or encoding only \(1\)")


@odd
def classes_of_another_encoding(root, random):
    for name in ("caf\xe9", "cafe\u0301", random.choice(CLASSES)):
        save(root / name / "1.png")
    return folder(root), Refused(r"caf\\xe9 = cafe\\u0301|cafe\\u0301 = caf\\xe9")


@odd
def classes_named_as_columns(root, random):
    names = ("fold", "id", "label", "path", "prediction")
    levels = [random.randrange(256) for _ in names]
    for name, level in zip(names, levels, strict=True):
        save(root / name / "1.png", level)
    return folder(root), Read({f"{name}/1.png": (name, level) for name, level in zip(names, levels, strict=True)})


@odd
def classes_named_as_formulas(root, random):
    for name in ("=1+1", "@SUM(A1)"):
        save(root / name / "1.png", 5)
    return folder(root), Read({f"{name}/1.png": (name, 5) for name in ("=1+1", "@SUM(A1)")})


@odd
def classes_with_escape_codes(root, random):
    for name in ("\x1b[31mred", "blue"):
        save(root / name / "\x1b[2J.png", 7)
    return folder(root), Read({f"{name}/\x1b[2J.png": (name, 7) for name in ("\x1b[31mred", "blue")})


@odd
def trains_are_a_class(root, random):
    for name in ("car", "train"):
        save(root / name / "1.png", 9)
    return folder(root), Read({f"{name}/1.png": (name, 9) for name in ("car", "train")})


@odd
def pictures_beside_the_classes(root, random):
    plain(root, random)
    save(root / "stray.png")
    return folder(root), Refused(r"pictures outside the folders of the classes \(1\): stray.png")


@odd
def a_folder_named_as_a_picture(root, random):
    train = plain(root, random)
    name = first_class(train)
    save(root / name / "album.png" / "1.png", 3)
    train[f"{name}/album.png/1.png"] = (name, 3)
    return folder(root), Read(train)


# --- Parts --------------------------------------------------------------------------------------------


def copy_part(root: Path, train: dict[str, tuple[str, object]], part: str) -> int:
    for name in {name for name, _ in train.values()}:
        save(root / part / name / "1.png", 1)
    return len({name for name, _ in train.values()})


def named_part(name: str, part: str) -> Callable:
    def write(root, random):
        train = plain(root, random, "train/")
        return folder(root), Read(train, parts={part: copy_part(root, train, name)})

    write.__name__ = f"a_part_named_{name}"
    return write


for _name, _part in (
    ("val", "valid"),
    ("validation", "valid"),
    ("dev", "valid"),
    ("VALID", "valid"),
    ("Testing", "test"),
):
    odd(named_part(_name, _part))


@odd
def a_part_named_training(root, random):
    train = plain(root, random, "training/")
    return folder(root), Read(train, parts={"test": copy_part(root, train, "test")})


@odd
def two_names_of_one_part(root, random):
    train = plain(root, random, "train/")
    copy_part(root, train, "val")
    copy_part(root, train, "valid")
    return folder(root), Refused(r"folders that are each the valid part \(2\): val, valid")


@odd
def parts_without_train(root, random):
    train = plain(root, random, "val/")
    copy_part(root, train, "test")
    return folder(root), Refused(r"parts without one to train on \(2\): val, test")


@odd
def another_folder_beside_the_parts(root, random):
    train = plain(root, random, "train/")
    copy_part(root, train, "extra")
    return folder(root), Read(train, told=r"folders beside the parts passed over \(1\): extra")


@odd
def the_notes_tree(root, random):
    train = plain(root, random, "train/")
    copy_part(root, train, "train_valid")
    for number in (2, 10, 1):
        save(root / "test" / "unknown" / f"{number}.png")
    return folder(root), Read(train, unlabelled=("1", "2", "10"))


@odd
def an_empty_part(root, random):
    train = plain(root, random, "train/")
    (root / "val").mkdir()
    return folder(root), Read(train, told="val: holds no picture in a folder of a class")


@odd
def a_class_that_train_lacks(root, random):
    plain(root, random, "train/")
    save(root / "test" / "zebra" / "1.png")
    return folder(root), Refused(r"test/: classes that train/ does not have \(1\): zebra")


# --- Names of files -----------------------------------------------------------------------------------


def named_file(title: str, name: str) -> None:
    def write(root, random):
        level = random.randrange(256)
        train, key = with_file(random, root, name, lambda path: save(path, level))
        train[key] = (first_class(train), level)
        return folder(root), Read(train)

    write.__name__ = title
    odd(write)


named_file("an_ending_in_capitals", "PHOTO.PNG")
named_file("a_name_with_spaces", " my photo .png")
named_file("a_name_in_other_letters", "фото 猫 🐈.png")
named_file("a_name_with_a_new_line", "a\nb.png")
named_file("a_name_that_is_no_text", os.fsdecode(b"\xff\xfe.png"))
named_file("a_name_of_250_letters", "x" * 246 + ".png")
named_file("a_name_with_a_quote_and_commas", 'a,"b",c.png')
named_file("a_name_as_a_formula", "=1+1.png")
named_file("a_name_that_begins_with_a_dash", "-rf.png")
named_file("a_jfif", "a.jfif")


@odd
def one_stem_twice(root, random):
    train, key = with_file(random, root, "0.bmp", lambda path: save(path, 77))
    train[key] = (first_class(train), 77)
    return folder(root), Read(train)


# --- Kinds of files -----------------------------------------------------------------------------------


def unread_kind(title: str, name: str) -> None:
    def write(root, random):
        train, key = with_file(random, root, name, lambda path: path.write_bytes(b"something"))
        return folder(root), Read(train, told=rf"their kind is not read \(1\): {key}; convert them to PNG or JPEG")

    write.__name__ = title
    odd(write)


for _ending in ("heic", "jxl", "svg", "pdf"):
    unread_kind(f"a_file_of_kind_{_ending}", f"a.{_ending}")
unread_kind("a_file_without_an_ending", "nothing")


def broken_file(title: str, name: str, write_it: Callable[[Path], object], words: str = "cannot be decoded") -> None:
    """Refused by name; and with on_bad_image=skip left out, by name."""

    def refused(root, random):
        _, key = with_file(random, root, name, write_it)
        return folder(root), Refused(rf"(?s)1 picture cannot be decoded.*{key}: .*{words}")

    def skipped(root, random):
        train, key = with_file(random, root, name, write_it)
        told = rf"pictures left out, they cannot be decoded \(1\): .*{key}"
        return folder(root, on_bad_image="skip"), Read(train, told=told)

    refused.__name__, skipped.__name__ = title, f"{title}_left_out"
    odd(refused)
    odd(skipped)


def write_half(path: Path) -> None:
    content = save(path.with_name(".whole.png"), 5, (40, 40)).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def write_flipped(path: Path) -> None:
    content = bytearray(save(path.with_name(".whole.png"), 5, (40, 40)).read_bytes())
    content[content.index(b"IDAT") + 12] ^= 1
    path.write_bytes(content)


def write_bomb(path: Path) -> None:
    """A header that promises 60,000 by 60,000 pixels."""
    content = bytearray(save(path.with_name(".whole.png"), 5).read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    from zlib import crc32

    content[29:33] = struct.pack(">I", crc32(content[12:29]))
    path.write_bytes(content)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", b"x" * 100)


def write_numbers(kind: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(np.zeros((8, 8), dtype=kind)).save(path)


broken_file("an_empty_file", "a.png", Path.touch)
broken_file("a_text", "a.png", lambda path: path.write_text("hello"), "no picture of a kind that is read")
for _ending in ("avif", "jp2"):  # kinds that Pillow reads
    broken_file(f"a_file_of_kind_{_ending}", f"a.{_ending}", lambda path: path.write_bytes(b"something"))
broken_file("a_web_page", "a.jpg", lambda path: path.write_text("<!DOCTYPE html><html>"))
broken_file("an_archive", "a.png", write_zip)
broken_file("a_torn_picture", "a.png", write_half)
broken_file("a_flipped_bit", "a.png", write_flipped, "is not what the checksum")
broken_file("a_picture_of_gigabytes", "a.png", write_bomb)
broken_file(
    "a_pointer_to_large_storage", "a.jpg", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n")
)
broken_file("a_named_pipe", "a.png", os.mkfifo, "is a named pipe; only regular files are read")
broken_file("a_link_to_a_device", "a.png", lambda path: path.symlink_to("/dev/zero"), "is a device")
broken_file("a_link_to_nothing", "a.png", lambda path: path.symlink_to("nowhere"), "No such file")
broken_file("a_link_to_itself", "a.png", lambda path: path.symlink_to(path.name), "symbolic links")
broken_file("fractions", "a.tif", write_numbers("float32"), "fractions of 32 bits")
broken_file("large_numbers", "a.tif", write_numbers("int32"), "whole numbers of 32 bits")


@odd
def links_to_pictures_and_folders(root, random):
    data = root / "data"
    train = plain(data, random)
    name = first_class(train)
    save(root / "elsewhere" / "1.png", 42)
    (data / name / "link.png").symlink_to(root / "elsewhere" / "1.png")
    (data / name / "more").symlink_to(root / "elsewhere")
    train[f"{name}/link.png"] = train[f"{name}/more/1.png"] = (name, 42)
    return folder(data), Read(train)


@odd
def a_link_that_leads_back(root, random):
    train = plain(root, random)
    name = first_class(train)
    (root / name / "again").symlink_to(root / name)
    return folder(root), Read(train, told=rf"\(1\): {name}/again/")


# --- What is in a picture -----------------------------------------------------------------------------


def shown(title: str, name: str, write_it: Callable[[Path], object], level: object, told="", tolerance=0, **given):
    def write(root, random):
        train, key = with_file(random, root, name, write_it)
        train[key] = (first_class(train), level)
        return folder(root, **given), Read(train, told=told, tolerance=tolerance)

    write.__name__ = title
    odd(write)


def of(mode: str, colour: object, **given) -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (8, 8), colour).save(path, **given)


def write_palette(path: Path) -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([1, 2, 3, 200, 100, 50])
    picture.save(path, transparency=bytes([255, 0]))


def write_turned(path: Path) -> None:
    """White above once it is turned by a quarter to the right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 40), dtype=np.uint8)
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def write_frames(path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (level,) * 3) for level in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


FRAMES = r"files with several frames, of which the first is taken \(1\)"
ADOBE = tuple(adobe_to_srgb(np.array([120, 160, 90])).round().astype(int).tolist())
shown("a_jpeg_named_png", "a.png", lambda path: save(path, 50, format="JPEG"), 50)
shown("sixteen_bits_of_grey", "a.png", lambda path: Image.fromarray(np.full((8, 8), 51_400, np.uint16)).save(path), 200)
shown("sixteen_bits_in_a_tiff", "a.tif", lambda path: Image.fromarray(np.full((8, 8), 300, np.uint16)).save(path), 1)
shown("alpha_of_nothing", "a.png", of("RGBA", (9, 9, 9, 0)), 255)
shown("alpha_of_a_half", "a.png", of("RGBA", (0, 0, 0, 128)), 127, tolerance=1)
shown("grey_and_alpha", "a.png", of("LA", (10, 0)), 255)
shown("a_palette_with_a_hole", "a.png", write_palette, 255)
shown("a_palette", "a.gif", lambda path: save(path, (0, 51, 102)), (0, 51, 102))
shown("one_bit", "a.png", of("1", 1), 255)
shown("grey_in_a_jpeg", "a.jpg", of("L", 77), 77, tolerance=1)
shown("inks", "a.jpg", of("CMYK", (0, 255, 255, 0), quality=100), (255, 0, 0), tolerance=4)
shown("black_ink", "a.jpg", of("CMYK", (0, 0, 0, 55)), 200, tolerance=2)
shown("a_wide_profile", "a.png", of("RGB", (120, 160, 90), icc_profile=write_adobe_rgb()), ADOBE, tolerance=2)
shown("a_broken_profile", "a.png", of("RGB", (120, 160, 90), icc_profile=b"no profile"), (120, 160, 90))
shown("a_moving_picture", "a.gif", write_frames, 10, told=FRAMES)
shown("a_tiff_of_pages", "a.tif", write_frames, 10, told=FRAMES)
shown("a_webp_that_moves", "a.webp", write_frames, 10, told=FRAMES, tolerance=2)
shown("a_picture_of_one_pixel", "a.png", lambda path: save(path, 66, (1, 1)), 66)
shown("a_long_thin_picture", "a.png", lambda path: save(path, 66, (500, 1)), 66)
shown("a_turned_picture", "a.jpg", write_turned, 255, tolerance=8)
shown("a_turned_tiff", "a.tif", lambda path: save(path, 12, (9, 30), tiffinfo={274: 6}), 12)
shown("lines_in_turns", "a.png", lambda path: save(path, 88), 88)


# --- Tables -------------------------------------------------------------------------------------------


def table(root: Path, random: Random, content: str | bytes | None = None, **given: object) -> tuple[dict, dict]:
    """Four pictures and labels.csv: `content` with the rows in the place of its {}; keys, and what is right."""
    names = sorted(random.sample(CLASSES, 2))
    train = {}
    for number in range(4):
        level = random.randrange(256)
        save(root / "train" / f"{number}.png", level)
        train[str(number)] = (names[number % 2], level)
    rows = "\n".join(f"{key},{name}" for key, (name, _) in train.items())
    if content is None:
        content = "id,label\n{}\n"
    if isinstance(content, str):
        content = content.replace("{}", rows).encode()
    (root / "labels.csv").write_bytes(content)
    return {"name": "image_csv", "root": str(root), "image_size": 8, **given}, train


def right_table(title: str, edit: Callable[[bytes], bytes]) -> None:
    def write(root, random):
        keys, train = table(root, random)
        path = root / "labels.csv"
        path.write_bytes(edit(path.read_bytes()))
        return keys, Read(train)

    write.__name__ = title
    odd(write)


def wrong_table(title: str, edit: Callable[[bytes], bytes], words: str) -> None:
    def write(root, random):
        keys, _ = table(root, random)
        path = root / "labels.csv"
        path.write_bytes(edit(path.read_bytes()))
        return keys, Refused(words)

    write.__name__ = title
    odd(write)


right_table("a_table_with_a_mark_of_its_encoding", lambda content: b"\xef\xbb\xbf" + content)
right_table("a_table_of_windows", lambda content: content.replace(b"\n", b"\r\n"))
right_table("a_table_of_an_old_mac", lambda content: content.replace(b"\n", b"\r"))
right_table("a_table_without_a_last_line_end", bytes.rstrip)
right_table("a_table_with_blank_lines", lambda content: content.replace(b"\n", b"\n\n"))
right_table("a_table_with_spaces", lambda content: content.replace(b",", b" , "))
right_table(
    "a_table_in_quotes", lambda content: b'"' + content.strip().replace(b",", b'","').replace(b"\n", b'"\n"') + b'"\n'
)
right_table("a_table_of_more_columns", lambda content: content.replace(b",", b",,x,").replace(b"id,,x", b"id,note,y"))
wrong_table("a_table_with_semicolons", lambda c: c.replace(b",", b";"), "separated by semicolons: save it with commas")
wrong_table("a_table_with_tabs", lambda c: c.replace(b",", b"\t"), "separated by tabs: save it with commas")
wrong_table("a_header_twice", lambda c: c.replace(b",", b",x,").replace(b"label", b"id", 0).replace(b"id,x", b"id,id"),
            r"columns that stand twice \(1\): id")  # fmt: skip
wrong_table("a_missing_column", lambda c: c.replace(b"label", b"kind"), "expected a table with the columns id, label")
wrong_table("an_id_twice", lambda c: c + c.splitlines()[1] + b"\n", r"ids that stand twice \(1\): 0")
wrong_table("an_id_with_two_labels", lambda c: c + b"0,zebra\n", r"ids with two labels \(1\): 0")
wrong_table("bytes_of_zero", lambda c: c[:12] + b"\0" + c[12:], "NUL bytes")
wrong_table("two_bytes_a_letter", lambda c: c.decode().encode("utf-16"), "save it as UTF-8")
wrong_table("one_byte_a_letter", lambda c: c + "4,caf\xe9".encode("latin-1"), "save it as UTF-8")
wrong_table("a_quote_without_an_end", lambda c: c.replace(b"\n1,", b'\n1,"'), "cannot be read")
wrong_table("a_huge_cell", lambda c: c + b"4," + b"x" * 200_000, "field larger than field limit")
wrong_table("an_id_without_a_file", lambda c: c + b"4,cat\n5,cat\n", r"ids without a file in train/ \(2\): 4, 5")
wrong_table("a_file_without_an_id", lambda c: c.rpartition(b"3,")[0], r"files without an id in labels.csv \(1\): 3")
wrong_table("an_empty_cell", lambda c: c + b"4,\n", r"lines with an empty cell \(1\): 6")
wrong_table("a_row_too_short", lambda c: c + b"4\n", r"lines without 2 cells \(1\): 6")
wrong_table("a_row_too_long", lambda c: c + b"4,cat,dog\n", r"lines without 2 cells \(1\): 6")
wrong_table("an_empty_table", lambda c: b"", "found nothing")
wrong_table("a_header_alone", lambda c: b"id,label\n", "without an id|no labelled picture")
wrong_table("an_escape_code_in_the_header", lambda c: b"\x1b[31m" + c, r"\\x1b\[31mid")
wrong_table("one_label_alone", lambda c: b"id,label\n" + b"".join(b"%d,cat\n" % n for n in range(4)), "one class only")
wrong_table("labels_of_another_case", lambda c: b"id,label\n0,Cat\n1,cat\n2,dog\n3,dog\n", "Cat = cat")


@odd
def a_label_of_two_lines(root, random):
    keys, train = table(root, random, 'id,label\n0,"a\nb"\n1,"c, d"\n2,"say ""e"""\n3,"c, d"\n')
    labels = ("a\nb", "c, d", 'say "e"', "c, d")
    return keys, Read({key: (label, train[key][1]) for key, label in zip(train, labels, strict=True)})


@odd
def labels_that_are_numbers(root, random):
    keys, train = table(root, random, "id,label\n0,10\n1,9\n2,-1\n3,10\n")
    labels = ("10", "9", "-1", "10")
    return keys, Read({key: (label, train[key][1]) for key, label in zip(train, labels, strict=True)})


@odd
def ids_with_endings(root, random):
    keys, train = table(root, random)
    content = "id,label\n" + "".join(f"{key}.png,{name}\n" for key, (name, _) in train.items())
    (root / "labels.csv").write_text(content)
    return keys, Read({f"{key}.png": value for key, value in train.items()})


@odd
def ids_with_folders(root, random):
    keys, train = table(root, random)
    (root / "train" / "more").mkdir()
    (root / "train" / "3.png").rename(root / "train" / "more" / "3.png")
    path = root / "labels.csv"
    path.write_text(path.read_text().replace("\n3,", "\nmore/3,"))
    train["more/3"] = train.pop("3")
    return keys, Read(train)


@odd
def folders_that_ids_do_not_have(root, random):
    keys, train = table(root, random)
    save(root / "train" / "more" / "4.png")
    return keys, Read(train, told=r"sub-folders passed over, pictures are looked for beside them \(1\): more")


@odd
def ids_left_out(root, random):
    keys, train = table(root, random, "id,label\n{}\n9,cat\n", on_bad_image="skip")
    return {**keys}, Read(train, told=r"ids left out, they have no file in train/ \(1\): 9")


@odd
def a_kind_that_is_not_read_among_those_to_predict(root, random):
    keys, train = table(root, random)
    save(root / "test" / "7.png")
    (root / "test" / "8.heic").touch()
    return keys, Read(train, told=r"test: files passed over, .*\(1\): 8.heic", unlabelled=("7",))


# --- Competitions -------------------------------------------------------------------------------------


@odd
def pets_in_folders_and_strangers(root, random):
    save(root / "train" / "cats" / "cat.1.jpg", 4)
    save(root / "train" / "dog.2.jpg", 6)
    (root / "train" / "birds").mkdir()
    train = {"dog.2": ("dog", 6), "cat.1": ("cat", 4)}
    keys = {"name": "dogs_vs_cats", "root": str(root), "image_size": 8, "resize": None}
    return keys, Read(train, told=r"sub-folders passed over, .* \(1\): birds", tolerance=1)


@odd
def pets_of_no_class(root, random):
    save(root / "train" / "fox.1.jpg")
    return {"name": "dogs_vs_cats", "root": str(root)}, Refused(r"files whose name has no class \(1\): fox.1.jpg")


def digits(title: str, edit: Callable[[list[str]], str], words: str | None) -> None:
    """Three rows of train.csv, each of one level; refused with `words`, or right."""

    def write(root, random):
        levels = [random.randrange(10, 256) for _ in range(3)]
        header = ",".join(["label", *(f"pixel{index}" for index in range(784))])
        rows = [",".join([str(label), *[str(level)] * 784]) for label, level in enumerate(levels)]
        (root / "train.csv").write_text(edit([header, *rows]))
        keys = {"name": "digit_recognizer", "root": str(root), "image_size": 28}
        right = {str(index): (str(index), level) for index, level in enumerate(levels)}
        return keys, Read(right) if words is None else Refused(words)

    write.__name__ = title
    odd(write)


def join(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


digits("digits_with_a_mark_of_their_encoding", lambda lines: "\ufeff" + join(lines), None)
digits("digits_with_blank_lines", lambda lines: "\n\n".join(lines), None)
digits("digits_with_a_pixel_too_bright", lambda lines: join([*lines[:3], "2,256" + ",0" * 783]), "256")
digits("digits_below_zero", lambda lines: join([*lines[:3], "2,-1" + ",0" * 783]), "-1")
digits("digits_of_fractions", lambda lines: join([*lines[:3], "2,0.5" + ",0" * 783]), "0.5")
digits("digits_that_are_words", lambda lines: join([*lines[:3], "two" + ",0" * 784]), "two")
digits("digits_above_nine", lambda lines: join([*lines[:3], "10" + ",0" * 784]), "labels from 0 to 9, found 10")
digits("digits_with_a_pixel_missing", lambda lines: join([*lines[:3], "2" + ",0" * 783]), "columns")
digits("digits_with_a_remark", lambda lines: join([*lines, "# 3" + ",0" * 784]), "# 3")
digits("digits_with_semicolons", lambda lines: join(lines).replace(",", ";"), "separated by semicolons")
digits("digits_without_a_header", lambda lines: join(lines[1:]), "expected the 785 columns")
digits("digits_without_rows", lambda lines: lines[0] + "\n", "no row below its header")
