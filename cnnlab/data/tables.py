"""Tables beside picture files: labels, and the sample of a submission. What is wrong with them is collected.

Each function is handed `problems` and adds one sentence for each kind of mistake, so that a reader can go on
and tell all of them together.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cnnlab.data.dataset import Competition, Facts, Label, Pictures
from cnnlab.data.files import (
    ENDINGS,
    check_classes,
    is_picture,
    list_folder,
    say_passed_over,
    stem,
    unlabelled_pictures,
)
from cnnlab.data.pictures import UnsoundPictures
from cnnlab.distributed import say
from cnnlab.errors import DataError, abridge, tell
from cnnlab.tasks import MULTICLASS, MULTILABEL, Task

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # of tables that are no CSV with commas
SAMPLES = ("sampleSubmission.csv", "sample_submission.csv")  # as competitions name the sample of a submission


@dataclass(frozen=True)
class Found:
    """What a reader needs to know of a competition's folder."""

    classes: tuple[str, ...]
    files: dict[str, Pictures]  # "train" and, where they are there, "unlabelled"
    competition: Competition
    task: Task = MULTICLASS


def find_by_table(
    root: str,
    table: str,
    id_column: str,
    label_column: str,
    folder: str = "train",
    test_folder: str = "test",
    *,
    value: Literal["class", "probability", "probabilities"] = "class",
    classes: tuple[str, ...] | None = None,
    skip: bool = False,
    with_sample: bool = True,
    label_columns: Sequence[str] = (),
    separator: str | None = None,
) -> Found:
    """Pictures in `folder` that `table` labels, those in `test_folder` to predict, and the sample of a submission.

    Without `classes` they are the table's labels, sorted. With `skip` an id without a file is left out, as a file
    that cannot be decoded is; without `with_sample` one that lies there is of other pictures, and passed over. With
    `label_columns`, of 0 and 1, or a `separator` between names in one column, an image has several labels. Raises
    UnsoundPictures with all problems.
    """
    base = require_folder(root)
    problems: list[str] = []
    labels: Mapping[str, Label | None]
    task: Task = MULTILABEL
    if label_columns:
        labels, classes = read_indicators(base / table, id_column, label_columns, problems), tuple(label_columns)
    elif separator is not None:
        labels, classes = read_label_lists(base / table, id_column, label_column, separator, problems)
    else:
        task = MULTICLASS
        names = read_labels(base / table, id_column, label_column, problems)
        if classes is None:
            classes = tuple(sorted(set(names.values())))
            check_classes(classes, problems)
        labels = number_labels(names, classes, table, problems)
    train = match_labels(base / folder, labels, table, problems, skip=skip)
    if not problems:
        own = (id_column, *(label_columns or (label_column,)))
        train = replace(train, columns=read_columns(base / table, own, train.ids))
    test = unlabelled_pictures(base / test_folder, with_ending=has_endings(labels), below=has_folders(labels))
    competition = Competition(value, id_column, label_column, find_sample(base) if with_sample else None, separator)
    return join_found(base, classes, train, test, competition, problems, task)


def require_folder(root: str) -> Path:
    if not Path(root).is_dir():
        raise DataError(f"dataset.root: no folder {root}; expected the one with the dataset's files and folders")
    return Path(root)


def find_sample(base: Path) -> Path | None:
    return next((base / name for name in SAMPLES if (base / name).is_file()), None)


def join_found(
    base: Path,
    classes: tuple[str, ...],
    train: Pictures,
    test: Pictures | None,
    competition: Competition,
    problems: list[str],
    task: Task = MULTICLASS,
) -> Found:
    """All of it together, held against the sample. Raises UnsoundPictures for `problems` and what that adds."""
    wanted = competition.columns(Facts(classes, 1, 1, task=task))
    check_sample(competition, wanted, None if test is None else test.ids, problems)
    if not problems and not len(train):
        problems.append("no labelled picture to train on")
    files = {"train": train} if test is None else {"train": train, "unlabelled": test}
    if problems:
        raise UnsoundPictures(base, problems, files)
    return Found(classes, files, competition, task)


# --- Labels -------------------------------------------------------------------------------------------


def read_labels(path: Path, id_column: str, label_column: str, problems: list[str]) -> dict[str, str]:
    """id → label, in the order of the table."""
    rows = read_rows(path, (id_column, label_column), problems)
    contradicted = find_repeated(name for name, _ in dict.fromkeys(rows))
    twice = [name for name in find_repeated(name for name, _ in rows) if name not in contradicted]
    if contradicted:
        problems.append(tell(f"{path.name}: ids with two labels", contradicted))
    if twice:
        problems.append(tell(f"{path.name}: ids that stand twice", twice))
    return {row[0]: row[1] for row in rows}


def number_labels(
    names: Mapping[str, str], classes: Sequence[str], table: str, problems: list[str]
) -> dict[str, int | None]:
    """id → which of the classes it is; None, and a problem, where it is none of them."""
    unknown = sorted(set(names.values()) - set(classes))
    if unknown:
        problems.append(f"{tell(f'{table}: labels that are no class', unknown)}; expected {abridge(classes)}")
    numbers = {name: number for number, name in enumerate(classes)}
    return {each: numbers.get(name) for each, name in names.items()}


def read_indicators(
    path: Path, id_column: str, label_columns: Sequence[str], problems: list[str]
) -> dict[str, tuple[int, ...]]:
    """id → 0 or 1 for each label, of a table with a column for each."""
    rows = read_rows(path, (id_column, *label_columns), problems)
    strange = [row[0] for row in rows if not set(row[1:]) <= {"0", "1"}]
    if strange:
        problems.append(f"{tell(f'{path.name}: ids with another label than 0 or 1', strange)}; expected one of these")
    twice = find_repeated(row[0] for row in rows)
    if twice:
        problems.append(tell(f"{path.name}: ids that stand twice", twice))
    return {row[0]: tuple(int(cell == "1") for cell in row[1:]) for row in rows}


def read_label_lists(
    path: Path, id_column: str, label_column: str, separator: str, problems: list[str]
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """id → 0 or 1 for each label, of a table with the names of those that it has in one column; and all names, sorted.

    An empty cell is an image without a label.
    """
    rows = read_rows(path, (id_column, label_column), problems, may_be_empty=label_column)
    lists = {row[0]: {name for each in row[1].split(separator) if (name := each.strip())} for row in rows}
    twice = find_repeated(row[0] for row in rows)
    if twice:
        problems.append(tell(f"{path.name}: ids that stand twice", twice))
    classes = tuple(sorted(set().union(*lists.values())))
    check_classes(classes, problems)
    return {each: tuple(int(name in names) for name in classes) for each, names in lists.items()}, classes


def read_columns(path: Path, own: Sequence[str], ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns of a sound table of labels that are not its `own`, ids first; their cells in the order of `ids`."""
    header, numbered = read_csv(path)
    by_id = {row[header.index(own[0])].strip(): row for _, row in numbered}
    names = [name for name in header if name not in own and header.count(name) == 1]
    return {name: tuple(by_id[each][header.index(name)].strip() for each in ids) for name in names}


def find_repeated(names: Iterable[str]) -> dict[str, int]:
    """Those that occur more than once, each with how often, in the order of their first."""
    return {name: count for name, count in Counter(names).items() if count > 1}


def read_rows(
    path: Path, columns: Sequence[str], problems: list[str], may_be_empty: str | None = None
) -> list[tuple[str, ...]]:
    """The cells of some columns of a CSV table, row by row. Rows that are not whole are left out, as a problem.

    Of one of the columns a cell `may_be_empty`.
    """
    expected = f"expected a table with the columns {', '.join(columns)}"
    try:
        header, numbered = read_csv(path)
    except DataError as error:
        problems.append(f"{error}; {expected}")
        return []
    missing = [column for column in columns if column not in header]
    if missing:
        problems.append(f"{path.name}: {expected}, found {abridge(header) or 'nothing'}{name_separator(header)}")
        return []
    repeated = [column for column in columns if header.count(column) > 1]
    if repeated:
        problems.append(f"{tell(f'{path.name}: columns that stand twice', repeated)}; expected each once")
        return []
    indices = [header.index(column) for column in columns]
    rows, torn, empty = [], [], []
    for line, row in numbered:
        if len(row) != len(header):
            torn.append(line)
            continue
        cells = tuple(row[index].strip() for index in indices)
        if all(cell or column == may_be_empty for cell, column in zip(cells, columns, strict=True)):
            rows.append(cells)
        else:
            empty.append(line)
    if torn:
        problems.append(tell(f"{path.name}: lines without {len(header)} cells", torn))
    if empty:
        problems.append(tell(f"{path.name}: lines with an empty cell", empty))
    return rows


def name_separator(header: Sequence[str]) -> str:
    """What to do where a header is a single cell with another separator in it."""
    for separator, name in SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            return f"; its columns are separated by {name}: save it with commas"
    return ""


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV file, and its other lines with their numbers. Raises DataError if it cannot be read."""
    if not path.is_file():
        raise DataError(f"{path.name}: missing")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise DataError(f"{path.name}: cannot be read (it has NUL bytes); save it as UTF-8")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        return header, [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: cannot be read ({error}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path.name}: cannot be read ({error})") from error


def match_labels(
    folder: Path, labels: Mapping[str, Label | None], table: str, problems: list[str], *, skip: bool
) -> Pictures:
    """The pictures of a folder with what a table says of them, in the order of the files; without label None."""
    if not folder.is_dir():
        problems.append(f"{folder.name}/: missing; expected a folder of pictures ({', '.join(ENDINGS)})")
        return Pictures((), (), ())
    files = index_files(folder, labels, problems)
    strangers = [name for name in files if name not in labels]
    if strangers and labels:  # without labels the table has been told to be missing
        problems.append(tell(f"{folder.name}/: files without an id in {table}", strangers))
    absent = [name for name in labels if name not in files]
    if absent and skip:
        say(tell(f"{folder.parent / table}: ids left out, they have no file in {folder.name}/", absent))
    elif absent:
        problems.append(tell(f"{table}: ids without a file in {folder.name}/", absent))
    known = {name: (path, label) for name, path in files.items() if (label := labels.get(name)) is not None}
    paths, found = zip(*known.values(), strict=True) if known else ((), ())
    return Pictures(paths, tuple(known), found)


def index_files(folder: Path, ids: Collection[str], problems: list[str]) -> dict[str, Path]:
    """Pictures by the ids that a table has for them: file names, with their endings if the ids have endings."""
    listing = list_folder(folder, below=has_folders(ids))
    say_passed_over(folder, listing)
    names = listing.pictures
    found = list(names) if has_endings(ids) else [stem(name) for name in names]
    twice = find_repeated(found)
    if twice:
        problems.append(tell(f"{folder.name}/: ids with two files", twice))
    return {each: folder / name for each, name in zip(found, names, strict=True)}


def has_endings(ids: Collection[str]) -> bool:
    """Whether a table's ids are whole file names."""
    return bool(ids) and all(map(is_picture, ids))


def has_folders(ids: Collection[str]) -> bool:
    """Whether some of a table's ids are paths below the folder of the pictures."""
    return any("/" in name for name in ids)


# --- Samples of a submission --------------------------------------------------------------------------


def check_sample(
    competition: Competition, wanted: Sequence[str], ids: Sequence[str] | None, problems: list[str]
) -> None:
    """What in the sample of a submission does not fit the columns wanted, and the ids (None: none are there yet)."""
    path = competition.sample
    if path is None:
        return
    try:
        header, rows = read_csv(path)
    except DataError as error:
        problems.append(str(error))
        return
    repeated = find_repeated(header)
    if repeated:
        problems.append(tell(f"{path.name}: columns that stand twice", repeated))
    kind = "columns" if list(wanted) == [competition.value_column] else "classes"
    asked = dict.fromkeys(row[0].strip() for _, row in rows)
    known = set(asked if ids is None else ids)
    found = {
        f"unknown {kind}": [column for column in header[1:] if column not in wanted],
        f"{kind} that it lacks": [column for column in wanted if column not in header[1:]],
        "ids that stand twice": find_repeated(row[0].strip() for _, row in rows),
        "ids without an image to predict": [name for name in asked if name not in known],
        "ids that it lacks": [name for name in ids or () if name not in asked],
    }
    if header[:1] != [competition.id_column]:
        problems.append(
            f"{path.name}: its first column is {header[:1]}; expected {competition.id_column}{name_separator(header)}"
        )
    problems += [tell(f"{path.name}: {what}", names) for what, names in found.items() if names]
