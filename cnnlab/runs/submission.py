"""A competition's submission: its columns, its ids in their order, and the checks without which it is not written.

    class           id,label            the name of the likeliest class; for regression the number
    number          id,label            the number of the likeliest class, from 0: of dogs vs cats 1 is a dog
    probability     id,label            of the second of two classes
    probabilities   id,<a class each>   of all classes

Where the competition has a sample, its columns and ids are taken as they stand there, in their order; else ids come
in the order of the images, which is by number where their names are numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cnnlab.data import Competition, Facts
from cnnlab.data.dataset import Label
from cnnlab.data.tables import check_sample, find_repeated, read_csv
from cnnlab.errors import ConfigError, DataError, abridge, format_list

Value = Literal["class", "number", "probability", "probabilities"]
TOLERANCE = 1e-6  # of the sum of an image's probabilities
EVEN = 0.5  # the threshold where none is given
ROUNDED = 1e-3  # of that sum in a file, where somebody may have rounded them


@dataclass(frozen=True)
class Layout:
    """What a submission will look like; all of it is known before an image is decoded."""

    value: Value
    header: tuple[str, ...]
    ids: tuple[str, ...]  # row by row
    indices: tuple[int, ...]  # of the row's image in the series that is predicted
    columns: tuple[int, ...]  # of the scores, where each has one, in the order of the header
    facts: Facts
    clip: float = 0.0  # what probabilities are kept away from 0 and 1
    thresholds: tuple[float, ...] | None = None  # see `decide`
    separator: str | None = None  # between the labels of an image; None: a column for each


def plan_submission(
    facts: Facts,
    competition: Competition,
    ids: Sequence[str],
    value: Value | None,
    clip: float = 0.0,
    thresholds: tuple[float, ...] | None = None,
) -> Layout:
    """The layout for images called `ids`; `value` overrides the competition's.

    Raises ConfigError for a format that the task does not have, DataError telling all that does not fit
    between the images, the classes and the sample.
    """
    competition = replace(competition, value=value or competition.value)
    require_format(facts, competition.value)
    tells_probability = competition.value in ("probability", "probabilities")
    if clip and not (tells_probability and facts.task.has_probabilities and clip * len(facts.classes) < 1):
        raise ConfigError(
            f"--clip {clip:g}: is for probabilities, of {len(facts.classes)} classes less than "
            f"{1 / len(facts.classes):g}; expected such a number, and the format probability or probabilities"
        )
    if thresholds is not None and tells_probability:
        raise ConfigError(f"--threshold: is for classes, and the submission has {competition.value}; expected none")
    problems: list[str] = []
    twice = find_repeated(ids)
    if twice:
        problems.append(format_list("ids of more than one image", twice))
    columns = competition.columns(facts)
    check_sample(competition, columns, ids, problems)
    if columns == facts.classes and competition.id_column in facts.classes:
        problems.append(f"a class is called {competition.id_column}, as the column of the ids; rename one of them")
    if problems:
        raise DataError("no submission is written:" + "".join(f"\n  - {problem}" for problem in problems))
    if competition.sample is None:
        header = [competition.id_column, *columns]
        wanted = list(ids)
    else:
        header, rows = read_csv(competition.sample)
        wanted = [row[0].strip() for _, row in rows]
    index = {name: number for number, name in enumerate(ids)}
    return Layout(
        value=competition.value,
        header=tuple(header),
        ids=tuple(wanted),
        indices=tuple(index[name] for name in wanted),
        columns=tuple(map(facts.classes.index, header[1:])) if columns == facts.classes else (),
        facts=facts,
        clip=clip,
        thresholds=thresholds,
        separator=competition.separator,
    )


def require_format(facts: Facts, value: Value) -> None:
    """Raises ConfigError if the task's predictions cannot be told so."""
    if value == "probability" and (not facts.task.has_classes or len(facts.classes) != 2):
        raise ConfigError(
            f"--format probability: is that of the second of two classes, and there are {len(facts.classes)} "
            f"({facts.task}); expected class or probabilities"
        )
    if value == "number" and not facts.task.has_classes:
        raise ConfigError(f"--format number: is that of a class, and {facts.task} has none; expected class")
    if not facts.task.has_probabilities and (value == "probabilities") != (len(facts.classes) > 1):
        raise ConfigError(
            f"--format {value}: there are {len(facts.classes)} numbers to tell of each image; "
            "expected class for one, probabilities for several"
        )


def format_submission(layout: Layout, scores: np.ndarray) -> Iterator[list[str]]:
    """The rows of the file, the header first. `scores`: (N, scores) of the images in the series' own order."""
    yield list(layout.header)
    for name, index in zip(layout.ids, layout.indices, strict=True):
        yield [name, *format_prediction(layout, scores[index])]


def format_prediction(layout: Layout, scores: np.ndarray) -> list[str]:
    if layout.clip:
        scores = clip_probabilities(layout.facts, scores, layout.clip)
    if layout.value == "probabilities":
        return [format_number(scores[column]) for column in layout.columns]
    if layout.value == "probability":
        return [format_number(scores[1])]
    if not layout.facts.task.has_probabilities:
        return [format_number(scores[0])]
    label = decide(layout.facts, scores, layout.thresholds)
    if isinstance(label, int):
        return [str(label) if layout.value == "number" else layout.facts.classes[label]]
    if layout.separator is None:
        return [str(label[column]) for column in layout.columns]
    return [layout.separator.join(layout.facts.classes[number] for number in np.flatnonzero(label))]


def decide(facts: Facts, scores: np.ndarray, thresholds: tuple[float, ...] | None = None) -> Label:
    """What probabilities (classes,) tell: the likeliest class or, where there is a threshold, the second from that on.

    Of several labels an image those above a half, or from their own thresholds on.
    """
    if facts.task.has_classes:
        return int(scores.argmax()) if thresholds is None else int(scores[1] >= thresholds[0])
    return tuple((scores > EVEN if thresholds is None else scores >= np.array(thresholds)).astype(int).tolist())


def clip_probabilities(facts: Facts, scores: np.ndarray, least: float) -> np.ndarray:
    """Probabilities (classes,) none of which is below `least`, or above 1 - `least`; they sum to one if they did."""
    if not facts.task.has_classes:
        return scores.clip(least, 1 - least)
    raised = scores < least
    while raised.any():
        left = 1 - least * raised.sum()
        clipped = np.where(raised, least, scores * left / scores[~raised].sum())
        if not (more := ~raised & (clipped < least)).any():
            return clipped
        raised |= more
    return scores


def format_number(value: float) -> str:
    return f"{value:.9g}"


def find_mistakes(path: Path, facts: Facts, competition: Competition, ids: Sequence[str] | None) -> list[str]:
    """What a competition would refuse, or score other than it is meant, in a submission that anybody wrote.

    `ids` are those of the images that it asks about, or of its sample; None: neither is there.
    """
    problems: list[str] = []
    columns = competition.columns(facts)
    check_sample(replace(competition, sample=path), columns, ids, problems)
    if problems:
        return problems
    header, rows = read_csv(path)
    torn = [line for line, row in rows if len(row) != len(header)]
    if torn:
        return [format_list(f"lines without {len(header)} cells", torn)]
    cells = [[cell.strip() for cell in row[1:]] for _, row in rows]
    lines = [line for line, _ in rows]
    if competition.value == "class" and facts.task.has_probabilities and columns != facts.classes:
        told = [row[0].split(competition.separator) if competition.separator else row for row in cells]
        strange = [line for line, names in zip(lines, told, strict=True) if not {*names} - {""} <= {*facts.classes}]
        if facts.task.has_classes:
            strange = [line for line, (name,) in zip(lines, cells, strict=True) if name not in facts.classes]
        expected = f"; expected {abridge(facts.classes)}"
        return [format_list("lines whose label is no class", strange) + expected] if strange else []
    numbers = np.array([[read_number(cell) for cell in row] for row in cells]).reshape(len(rows), len(header) - 1)
    is_number = np.isfinite(numbers).all(1)
    found = {"lines with a cell that is no finite number": ~is_number}
    if competition.value == "number":
        is_class = np.isin(numbers, np.arange(len(facts.classes))).all(1)
        found[f"lines whose label is none of 0 … {len(facts.classes) - 1}"] = is_number & ~is_class
    elif competition.value == "class" and facts.task.has_probabilities:
        found["lines with a cell that is neither 0 nor 1"] = is_number & ~np.isin(numbers, (0, 1)).all(1)
    elif facts.task.has_probabilities:
        found["lines with a probability outside 0 … 1"] = is_number & ((numbers < 0) | (numbers > 1)).any(1)
    if competition.value == "probabilities" and facts.task.has_classes:
        found["lines whose probabilities do not sum to one"] = is_number & (abs(numbers.sum(1) - 1) > ROUNDED)
    return [format_list(what, np.array(lines)[bad].tolist()) for what, bad in found.items() if bad.any()]


def read_number(cell: str) -> float:
    """Not a number where the cell is none."""
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def require_sound(facts: Facts, ids: Sequence[str], scores: np.ndarray) -> None:
    """Raises DataError, naming ids, for scores that nobody could have meant."""
    if not facts.task.has_probabilities:
        found = {"predictions that are no finite numbers": ~np.isfinite(scores).all(1)}
    else:
        finite = np.isfinite(scores).all(1)
        found = {
            "probabilities that are no finite numbers": ~finite,
            "probabilities outside 0 … 1": finite & ((scores < 0) | (scores > 1)).any(1),
        }
    if facts.task.has_classes:
        found["probabilities that do not sum to one"] = finite & (abs(scores.sum(1) - 1) > TOLERANCE)
    problems = [
        format_list(what, (ids[index] for index in np.flatnonzero(bad).tolist()))
        for what, bad in found.items()
        if bad.any()
    ]
    if problems:
        raise DataError("nothing is written:" + "".join(f"\n  - {problem}" for problem in problems))
