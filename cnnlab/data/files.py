"""Files before they are opened: which pictures a folder holds, in what order, and what lies there beside them."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cnnlab.data.dataset import Pictures
from cnnlab.distributed import say
from cnnlab.errors import MAX_LISTED, DataError, format_list

# Kinds that Pillow reads with another module: what that is, and how it is had.
OPTIONAL = {
    (".avif",): ("PIL._avif", "pip install --upgrade pillow"),
    (".heic", ".heif"): ("pillow_heif", "pip install pillow-heif"),
}
ENDINGS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".j2k"),
    *(ending for endings, (module, _) in OPTIONAL.items() if find_spec(module) for ending in endings),
)
CLUTTER = ("thumbs.db", "desktop.ini")  # that Windows leaves in folders of pictures
NUMBERED = re.compile(r"(.*\W)?(\d+)", re.DOTALL)  # 17, cat.17


# --- Listing ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """What is in a folder and not hidden; names as they are seen from it: "1.jpg", "more/2.jpg"."""

    pictures: tuple[str, ...]  # in alphabetical order, or by number where all names of a folder end in one
    others: tuple[str, ...]  # files of a kind that is not read, and folders that lead back to one above them
    folders: tuple[str, ...]  # sub-folders that are not looked into


def list_folder(folder: Path, *, below: bool = False) -> Listing:
    """What a folder holds; with `below` its sub-folders too, after it and in alphabetical order.

    Raises DataError if one of them cannot be read.
    """
    pictures: list[str] = []
    others: list[str] = []
    above = {_identify(folder)}

    def list_one(inside: Path, prefix: str) -> list[str]:
        names, folders = _scan(inside)
        pictures.extend(prefix + name for name in sort_numbered(filter(is_picture, names)))
        others.extend(prefix + name for name in names if not is_picture(name) and name.lower() not in CLUTTER)
        return folders

    def list_below(inside: Path, prefix: str, folders: Iterable[str]) -> None:
        for name in folders:
            identity = _identify(inside / name)
            if identity in above:  # a symbolic link, by which one could go round for ever
                others.append(f"{prefix}{name}/")
                continue
            above.add(identity)
            list_below(inside / name, f"{prefix}{name}/", list_one(inside / name, f"{prefix}{name}/"))
            above.remove(identity)

    folders = list_one(folder, "")
    if below:
        list_below(folder, "", folders)
        folders = []
    return Listing(tuple(pictures), tuple(others), tuple(folders))


def _scan(folder: Path) -> tuple[list[str], list[str]]:
    """The names of files and of sub-folders that are not hidden, each sorted. Raises DataError."""
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if _is_folder(entry) else names).append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error
    return sorted(names), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _identify(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error
    return status.st_dev, status.st_ino


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture of a kind that is read."""
    return name.lower().endswith(ENDINGS)


def sort_numbered(names: Iterable[str]) -> list[str]:
    """File names with 2 before 10, and cat.10 before dog.2, if all of them are so numbered; else as text."""
    names = sorted(names)
    numbered = [NUMBERED.fullmatch(stem(name)) for name in names]
    if not all(numbered):
        return names
    keys = {name: (match[1] or "", int(match[2])) for name, match in zip(names, numbered, strict=True) if match}
    return sorted(names, key=keys.__getitem__)


def stem(name: str) -> str:
    """The name of a picture file without its ending."""
    return name.rpartition(".")[0]


def say_passed_over(folder: Path, listing: Listing) -> None:
    """Name on stderr what is in a folder of pictures and will not be read."""
    if listing.others:
        say(
            f"{format_list(f'{folder}: files passed over, their kind is not read', listing.others)}; "
            f"convert them to PNG or JPEG, or give them the ending of what they are ({', '.join(ENDINGS)})"
            f"{tell_missing(listing.others)}"
        )
    if listing.folders:
        say(format_list(f"{folder}: sub-folders passed over, pictures are looked for beside them", listing.folders))


def explain_broken(reasons: Sequence[str], remedy: str) -> str:
    """The message about pictures that cannot be decoded, each with its own reason; `remedy` leaves them out."""
    what, them = ("1 picture", "it") if len(reasons) == 1 else (f"{len(reasons):,} pictures", "them")
    shown = "".join(f"\n  {reason}" for reason in reasons[:MAX_LISTED])
    return f"{what} cannot be decoded; fix or remove {them}, or leave {them} out with {remedy}:{shown}"


def tell_missing(names: Iterable[str]) -> str:
    """What to install where some files are of kinds that could be read; nothing where there are none."""
    there = {Path(name).suffix.lower() for name in names} - set(ENDINGS)
    return "".join(
        f"; {' and '.join(endings)} are read after {remedy}"
        for endings, (_, remedy) in OPTIONAL.items()
        if there & set(endings)
    )


def unlabelled_pictures(folder: Path, *, with_ending: bool = False, below: bool = False) -> Pictures | None:
    """The pictures of a folder under their names, without ending as a rule; None where there is no folder."""
    if not folder.is_dir():
        return None
    listing = list_folder(folder, below=below)
    say_passed_over(folder, listing)
    names = listing.pictures
    return Pictures(tuple(folder / name for name in names), names if with_ending else tuple(map(stem, names)))


# --- Opening ------------------------------------------------------------------------------------------


def require_regular(path: Path) -> None:
    """Raises DataError for what is no regular file: opening a pipe or a device could wait for ever.

    Raises OSError if there is nothing.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is {name_kind(mode)}; only regular files are read")


def read_regular(path: Path) -> bytes:
    """All of a regular file. Raises DataError if it is none, OSError if it cannot be read."""
    require_regular(path)
    with open(path, "rb", buffering=0) as file:  # at once, which for small pictures is a tenth of their time
        return file.read()


def name_kind(mode: int) -> str:
    """What a file that is not regular is, by its `st_mode`."""
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), "no file")


# --- Classes ------------------------------------------------------------------------------------------


def check_classes(classes: Sequence[str], problems: list[str], source: str = "") -> None:
    """Classes that cannot be told apart: a single one, and names that differ only as they are written.

    A problem begins with the `source` that names them, such as "labels.csv: ".
    """
    if len(classes) == 1:
        problems.append(
            f"{format_list(f'{source}one class only', classes)}; expected two or more, which a network can tell apart"
        )
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_normalise_name(name), []).append(name)
    twins = [" = ".join(map(_spell, names)) for names in alike.values() if len(names) > 1]
    if twins:
        problems.append(
            format_list(f"{source}classes whose names differ in case, spaces or encoding only", twins)
            + "; join or rename"
        )


def _normalise_name(name: str) -> str:
    composed = unicodedata.normalize("NFC", name)
    return " ".join(unicodedata.normalize("NFC", composed.casefold()).split())


def _spell(name: str) -> str:
    """A name by which those that look the same can be told apart."""
    return name if name.isascii() else ascii(name)[1:-1]
