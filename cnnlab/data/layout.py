"""A dataset of pictures as a tree of folders, one a class:

    train/<class>/…  valid/<class>/…       as training would split it, and test/<class>/ likewise
    train_valid/<class>/…                  the pictures of both again, for a last fit
    test/unknown/…                         pictures to predict

Files are hard links where the file system allows, else symbolic ones, else copies. The tree grows beside its place
and is moved when it is whole; one that was interrupted is gone on with.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from cnnlab.data.dataset import Pictures
from cnnlab.data.folder import UNKNOWN
from cnnlab.errors import DataError, StorageError, format_list
from cnnlab.progress import Progress


def plan_tree(parts: Mapping[str, Pictures], classes: tuple[str, ...]) -> dict[Path, Path]:
    """Where each file goes → the file. `parts` are "train" and, where there are, "valid", "test" and "unlabelled".

    Raises DataError for classes that cannot name a folder, and for names that two files would have.
    """
    impossible = [name for name in classes if name.startswith(".") or Path(name).name != name]
    if "unlabelled" in parts:
        impossible += [name for name in classes if name == UNKNOWN]
    if impossible:
        raise DataError(f"{format_list('classes that cannot name a folder', impossible)}; rename them in the dataset")
    wanted = [
        (Path(folder, classes[label], path.name), path)
        for part, folder in (
            ("train", "train"),
            ("valid", "valid"),
            ("test", "test"),
            ("train", "train_valid"),
            ("valid", "train_valid"),
        )  # fmt: skip
        if part in parts
        for path, label in zip(parts[part].paths, parts[part].label_tensor().tolist(), strict=True)
    ]
    if "unlabelled" in parts:
        wanted += [(Path("test", UNKNOWN, path.name), path) for path in parts["unlabelled"].paths]
    plan = dict(wanted)
    twice = [target for target, source in wanted if plan[target] != source]
    if twice:
        raise DataError(f"{format_list('files of the same name would lie in one folder', twice)}; rename them")
    return plan


def write_tree(output: Path, plan: Mapping[Path, Path]) -> bool:
    """Make the tree; whether there was something to do.

    Raises DataError if `output` is there and holds something else, StorageError if it cannot be written.
    """
    if output.is_dir() and any(output.iterdir()):
        require_tree(output, plan)
        return False
    partial = output.with_name(f".{output.name}.partial")
    try:
        for folder in {target.parent for target in plan}:
            (partial / folder).mkdir(parents=True, exist_ok=True)
        with Progress("laying out pictures", len(plan)) as progress:
            for target, source in plan.items():
                if not is_same(source, partial / target):
                    put(source, partial / target)
                progress.update()
        for left_over in set(list_tree(partial)) - set(plan):  # of an interrupted call with another split
            (partial / left_over).unlink()
        if output.is_dir():
            output.rmdir()  # an empty folder
        partial.rename(output)
    except OSError as error:
        raise StorageError(f"{output}: cannot be written ({error}); call it again when there is room") from error
    return True


def require_tree(output: Path, plan: Mapping[Path, Path]) -> None:
    """Raises DataError unless the tree is the one that is planned."""
    there = set(list_tree(output))
    missing = [target for target in plan if target not in there]
    foreign = sorted(there - set(plan))
    changed = [target for target in plan if target in there and not is_same(plan[target], output / target)]
    found = {"files missing": missing, "files that do not belong there": foreign, "other files": changed}
    told = [format_list(what, names) for what, names in found.items() if names]
    if told:
        raise DataError(
            f"{output}: is there and holds something else than this dataset with this split: {'; '.join(told)}. "
            "Remove it, or choose another folder with --output"
        )


def list_tree(folder: Path) -> Iterable[Path]:
    """Every file below a folder, seen from there; not what lies in hidden ones, such as packed pictures."""
    there = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return (path for path in there if not path.parts[0].startswith("."))


def is_same(source: Path, target: Path) -> bool:
    return target.exists() and (target.samefile(source) or filecmp.cmp(source, target))


def put(source: Path, target: Path) -> None:
    """A hard link, a symbolic link or a copy. Raises OSError."""
    target.unlink(missing_ok=True)
    for link in (os.link, os.symlink):
        try:
            return link(source.resolve(), target)
        except OSError:  # another file system, or one without links
            continue
    copy = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, copy)
    copy.replace(target)
    return None
