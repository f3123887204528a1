"""What a lesson shows, and how a terminal shows it; `pages.py` turns the same parts into HTML.

`show` returns parts in reading order. Each is one of

    str                 a paragraph
    dict[str, Tensor]   matrices side by side, each under its caption
    Table               rows under a header
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
else:
    # Only a picture needs matplotlib: lessons name the type, and text is shown without loading it.
    Figure = Tensor = object

LEADS = "Question|Answer|On real data|Look at|In the notes|Try next|The test set"  # words that open a paragraph
WIDTH = 92  # characters: what an eye follows back to the next line without losing it


class Table(NamedTuple):
    header: list[str]
    rows: list[list[Any]]  # words, numbers and shapes


Values = dict[str, Any]
Parts = list["str | dict[str, Tensor] | Table"]


def number(value: float) -> str:
    """Whole numbers without a point, the others in four significant digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def shape(sizes: Sequence[int]) -> str:
    """(1, 28, 28) as 1×28×28."""
    return "×".join(str(size) for size in sizes)


def cells(matrix: Tensor) -> list[list[str]]:
    """A matrix as text, with as many decimals as all of its entries need together, and three at most."""
    assert matrix.dim() <= 2, "a page shows matrices; pick channels out first"
    columns = matrix.shape[-1] if matrix.dim() else 1
    rows = matrix.detach().double().reshape(-1, columns).tolist()
    entries = [entry for row in rows for entry in row]
    decimals = 3
    while decimals and all(round(entry, decimals) == round(entry, decimals - 1) for entry in entries):
        decimals -= 1
    return [[f"{round(entry, decimals) + 0.0:.{decimals}f}" for entry in row] for row in rows]


def columns(table: Table) -> list[tuple[list[str], bool]]:
    """A table's columns as text, header first, and whether each holds numbers and is set flush right."""
    return [
        ([head, *_column(values)], all(_is_number(value) for value in values))
        for head, *values in zip(table.header, *table.rows, strict=True)
    ]


def _column(values: Sequence[Any]) -> list[str]:
    numbers = [value for value in values if _is_number(value)]
    if any(not float(value).is_integer() for value in numbers):
        small = any(0 < abs(value) < 1e-4 for value in numbers)
        write = "{:.3g}".format if small or max(map(abs, numbers)) >= 1e6 else "{:.4f}".format
        return [write(value + 0.0) if _is_number(value) else str(value) for value in values]
    return [number(value) if _is_number(value) else _words(value) for value in values]


def _words(value: Any) -> str:
    return shape(value) if isinstance(value, (tuple, list)) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- Text -----------------------------------------------------------------------------------------


def render(parts: Parts) -> str:
    """The parts for a terminal, with a blank line between them."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(textwrap.fill(part.replace("$", ""), WIDTH))
        elif isinstance(part, Table):
            texts.append(_table(part))
        else:
            texts.append(_side_by_side(part))
    return "\n\n".join(texts)


def paragraphs(text: str) -> list[tuple[bool, str]]:
    """A docstring's blocks: (True, formula, table or code) where lines are indented, (False, prose) elsewhere."""
    blocks = []
    for block in text.split("\n\n"):
        indented = block.startswith("    ")
        blocks.append((indented, textwrap.dedent(block) if indented else block.strip("\n")))
    return blocks


def render_prose(text: str) -> str:
    """Prose of a docstring, filled; a line that opens with Question, Answer or the like stays a line."""
    rendered = []
    for indented, block in paragraphs(text):
        if indented:
            rendered.append(textwrap.indent(render_block(block), "    "))
        else:
            rendered.append("\n".join(textwrap.fill(p.replace("$", ""), WIDTH) for p in unwrap(block)))
    return "\n\n".join(rendered)


def render_block(block: str) -> str:
    """An indented block without the $ around its formulas, its columns under one another again."""
    rows = [split_columns(line.replace("$", "")) for line in block.splitlines()]
    if len(rows) == 1 or block.startswith((">>> ", "cnnlab ")):
        return block.replace("$", "").replace(">>> ", "")
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    return "\n".join(
        "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip() for row in rows
    )


def split_columns(line: str) -> list[str]:
    """The columns of a line: two blanks or more stand between them."""
    return re.split(r"\s{2,}", line.strip())


def unwrap(block: str) -> list[str]:
    """The paragraphs of one block of prose: an answer starts its own, right below its question."""
    question, mark, answer = block.partition("\nAnswer:")
    parts = [question, mark.strip() + answer] if mark else [block]
    return [" ".join(part.split()) for part in parts]


def _side_by_side(matrices: dict[str, Tensor]) -> str:
    blocks = []
    for caption, matrix in matrices.items():
        text = cells(matrix)
        width = max(len(entry) for row in text for entry in row)
        lines = [caption] + ["  ".join(entry.rjust(width) for entry in row) for row in text]
        widest = max(len(line) for line in lines)
        blocks.append([line.ljust(widest) for line in lines])
    blank = [" " * len(block[0]) for block in blocks]
    rows = zip_longest(*blocks)
    filled = [[entry or blank[i] for i, entry in enumerate(row)] for row in rows]
    return "\n".join(("    " + "     ".join(row)).rstrip() for row in filled)


def _table(table: Table) -> str:
    aligned = []
    for texts, flush_right in columns(table):
        width = max(map(len, texts))
        head, *rest = [text.rjust(width) if flush_right else text.ljust(width) for text in texts]
        aligned.append([head, "─" * width, *rest])
    return "\n".join("    " + "   ".join(row).rstrip() for row in zip(*aligned, strict=True))
