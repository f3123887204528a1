"""Cells of a run's tables: names of classes and files come from anywhere, and a table may be opened in a spreadsheet.

A submission's cells are the competition's and are left exactly as it has them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\r\n]")  # how a cell begins that is computed
NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)
COLUMNS = ("id", "fold", "path", "label", "prediction")  # of tables of predictions, before the scores


def guard(name: str) -> str:
    """A name as a cell: an apostrophe before one that a spreadsheet would compute, as it would =1+1 or @SUM(A1).

    Numbers stay. Whoever reads the table takes one apostrophe from cells in which such a beginning follows it, so
    that a name has one more if it begins like that. Bytes of a file's name that are no text become escapes.
    """
    name = name.encode("utf-8", "backslashreplace").decode()
    return f"'{name}" if FORMULA.match(name) and not NUMBER.fullmatch(name) else name


def title_scores(names: Sequence[str], taken: Collection[str] = COLUMNS) -> list[str]:
    """The columns of the scores: the names of the classes, all after `score_` where one of them is a column already."""
    clash = not set(names).isdisjoint(taken)
    return [guard(f"score_{name}" if clash else name) for name in names]
