"""Tables beside picture files: labels, and the sample of a submission. What is wrong with them is collected.

Each function is handed `problems` and adds one sentence for each kind of mistake, so that a reader can go on
and tell all of them together.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from cnnlab.errors import DataError, abridge, format_list
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
    table: Table,
    folder: str = "train",
    test_folder: str = "test",
    *,
    value: Literal["class", "probability", "probabilities"] = "class",
    skip: bool = False,
    with_sample: bool = True,
) -> Found:
    """Pictures in `folder` that a table in `root` labels, those in `test_folder` to predict, a sample of a submission.

    With `skip` an id without a file is left out, as a file that cannot be decoded is; without `with_sample` one that
    lies there is of other pictures, and passed over. Raises UnsoundPictures with all problems.
    """
    base = require_folder(root)
    problems: list[str] = []
    told = table.read(base, problems)
    train = match_labels(base / folder, told, table.name, problems, skip=skip)
    ids = told.labels
    test = unlabelled_pictures(base / test_folder, with_ending=has_endings(ids), below=has_folders(ids))
    sample = find_sample(base) if with_sample else None
    competition = Competition(value, table.id_column, table.label_column, sample, table.separator)
    return join_found(base, told.classes, train, test, competition, problems, told.task)


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


@dataclass(frozen=True)
class Table:
    """A table of labels below a folder: which columns it has, and how it tells what a picture is.

    With `label_columns`, of 0 and 1, or a `separator` between names in one column, a picture has several labels.
    """

    name: str  # of the file
    id_column: str = "id"
    label_column: str = "label"
    classes: tuple[str, ...] | None = None  # that there are; None: those that stand in it, sorted
    label_columns: tuple[str, ...] = ()
    separator: str | None = None

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The ids' and the labels'."""
        return (self.id_column, *(self.label_columns or (self.label_column,)))

    def read(self, base: Path, problems: list[str]) -> Told:
        if self.label_columns:
            return read_indicators(base / self.name, self, problems)
        if self.separator is not None:
            return read_label_lists(base / self.name, self, self.separator, problems)
        return read_labels(base / self.name, self, problems)


@dataclass(frozen=True)
class Told:
    """What a table says, by ids and in its order."""

    task: Task
    classes: tuple[str, ...]
    labels: Mapping[str, Label | None]  # None: of none of the classes
    rows: Rows

    def find_columns(self, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The cells of each other column for some ids."""
        places = {row[0]: place for place, row in enumerate(self.rows.cells)}
        chosen = [places[each] for each in ids]
        return {name: tuple(cells[place] for place in chosen) for name, cells in self.rows.others.items()}


def read_labels(path: Path, table: Table, problems: list[str]) -> Told:
    """Of a table with a label an id. An id with a label that is no class is a problem, as one that stands twice is."""
    rows = read_rows(path, table.own_columns, problems)
    contradicted = find_repeated(name for name, _ in dict.fromkeys(rows.cells))
    twice = [name for name in find_repeated(name for name, _ in rows.cells) if name not in contradicted]
    if contradicted:
        problems.append(format_list(f"{path.name}: ids with two labels", contradicted))
    if twice:
        problems.append(format_list(f"{path.name}: ids that stand twice", twice))
    names = {row[0]: row[1] for row in rows.cells}
    classes = table.classes
    if classes is None:
        classes = tuple(sorted(set(names.values())))
        check_classes(classes, problems, f"{path.name}: ")
    unknown = sorted(set(names.values()) - set(classes))
    if unknown:
        problems.append(
            f"{format_list(f'{table.name}: labels that are no class', unknown)}; expected {abridge(classes)}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return Told(MULTICLASS, classes, {each: numbers.get(name) for each, name in names.items()}, rows)


def read_indicators(path: Path, table: Table, problems: list[str]) -> Told:
    """Of a table with a column of 0 and 1 for each label."""
    rows = read_rows(path, table.own_columns, problems)
    strange = [row[0] for row in rows.cells if not set(row[1:]) <= {"0", "1"}]
    if strange:
        problems.append(
            f"{format_list(f'{path.name}: ids with another label than 0 or 1', strange)}; expected one of these"
        )
    twice = find_repeated(row[0] for row in rows.cells)
    if twice:
        problems.append(format_list(f"{path.name}: ids that stand twice", twice))
    labels = {row[0]: tuple(int(cell == "1") for cell in row[1:]) for row in rows.cells}
    return Told(MULTILABEL, table.label_columns, labels, rows)


def read_label_lists(path: Path, table: Table, separator: str, problems: list[str]) -> Told:
    """Of a table with the names of the labels that a picture has in one column; the classes are all names, sorted.

    An empty cell is an image without a label.
    """
    rows = read_rows(path, table.own_columns, problems, may_be_empty=table.label_column)
    lists = {row[0]: {name for each in row[1].split(separator) if (name := each.strip())} for row in rows.cells}
    twice = find_repeated(row[0] for row in rows.cells)
    if twice:
        problems.append(format_list(f"{path.name}: ids that stand twice", twice))
    classes = tuple(sorted(set().union(*lists.values())))
    check_classes(classes, problems, f"{path.name}: ")
    labels = {each: tuple(int(name in names) for name in classes) for each, names in lists.items()}
    return Told(MULTILABEL, classes, labels, rows)


def find_repeated(names: Iterable[str]) -> dict[str, int]:
    """Those that occur more than once, each with how often, in the order of their first."""
    return {name: count for name, count in Counter(names).items() if count > 1}


@dataclass(frozen=True)
class Rows:
    """The rows of a CSV table that are whole: the cells of the columns that were asked for, and the other columns."""

    cells: list[tuple[str, ...]]
    others: dict[str, tuple[str, ...]]  # by their names, of those that stand once; a cell each row


def read_rows(path: Path, columns: Sequence[str], problems: list[str], may_be_empty: str | None = None) -> Rows:
    """A CSV table with certain columns. Rows that are not whole are left out, as a problem.

    Of one of the columns a cell `may_be_empty`.
    """
    expected = f"expected a table with the columns {', '.join(columns)}"
    try:
        header, numbered = read_csv(path)
    except DataError as error:
        problems.append(f"{error}; {expected}")
        return Rows([], {})
    missing = [column for column in columns if column not in header]
    if missing:
        problems.append(f"{path.name}: {expected}, found {abridge(header) or 'nothing'}{name_separator(header)}")
        return Rows([], {})
    repeated = [column for column in columns if header.count(column) > 1]
    if repeated:
        problems.append(f"{format_list(f'{path.name}: columns that stand twice', repeated)}; expected each once")
        return Rows([], {})
    indices = [header.index(column) for column in columns]
    rows, whole, torn, empty = [], [], [], []
    for line, row in numbered:
        if len(row) != len(header):
            torn.append(line)
            continue
        cells = tuple(row[index].strip() for index in indices)
        if all(cell or column == may_be_empty for cell, column in zip(cells, columns, strict=True)):
            rows.append(cells)
            whole.append(row)
        else:
            empty.append(line)
    if torn:
        problems.append(format_list(f"{path.name}: lines without {len(header)} cells", torn))
    if empty:
        problems.append(format_list(f"{path.name}: lines with an empty cell", empty))
    others = [index for index, name in enumerate(header) if name not in columns and header.count(name) == 1]
    return Rows(rows, {header[index]: tuple(row[index].strip() for row in whole) for index in others})


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


def match_labels(folder: Path, told: Told, table: str, problems: list[str], *, skip: bool) -> Pictures:
    """The pictures of a folder with what a table says of them, in the order of the files."""
    labels = told.labels
    if not folder.is_dir():
        problems.append(f"{folder.name}/: missing; expected a folder of pictures ({', '.join(ENDINGS)})")
        return Pictures((), (), ())
    files = index_files(folder, labels, problems)
    strangers = [name for name in files if name not in labels]
    if strangers and labels:  # without labels the table has been told to be missing
        problems.append(format_list(f"{folder.name}/: files without an id in {table}", strangers))
    absent = [name for name in labels if name not in files]
    if absent and skip:
        say(format_list(f"{folder.parent / table}: ids left out, they have no file in {folder.name}/", absent))
    elif absent:
        problems.append(format_list(f"{table}: ids without a file in {folder.name}/", absent))
    known = {name: (path, label) for name, path in files.items() if (label := labels.get(name)) is not None}
    paths, found = zip(*known.values(), strict=True) if known else ((), ())
    return Pictures(paths, tuple(known), found, told.find_columns(known))


def index_files(folder: Path, ids: Collection[str], problems: list[str]) -> dict[str, Path]:
    """Pictures by the ids that a table has for them: file names, with their endings if the ids have endings."""
    listing = list_folder(folder, below=has_folders(ids))
    say_passed_over(folder, listing)
    names = listing.pictures
    found = list(names) if has_endings(ids) else [stem(name) for name in names]
    twice = find_repeated(found)
    if twice:
        problems.append(format_list(f"{folder.name}/: ids with two files", twice))
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
        problems.append(format_list(f"{path.name}: columns that stand twice", repeated))
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
    problems += [format_list(f"{path.name}: {what}", names) for what, names in found.items() if names]
