"""The lessons in the order of the notes, and what a lesson is: one file, read like a page.

    \"\"\"Title, in one line.

    What and why, in a few paragraphs; indented lines are formulas or code.

    Question: What a reader may ask now?
    Answer: ...

    On real data: ...

        cnnlab inspect ...
    \"\"\"

    def compute(*, key: Type = default) -> Values: ...      a pure function: same keys, same values
    def show(values: Values) -> Parts: ...                  the numbers, and what they say
    def draw(values: Values, figure: Figure) -> None: ...   optional

The text is read from the source, so a list of lessons costs no import of torch.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from cnnlab.errors import ConfigError
from cnnlab.signature import suggest

CHAPTERS = {
    "Convolutions and their shapes": ["conv", "padding", "stride", "max_pool", "gpu"],
    "Wider and deeper": ["bottleneck", "inception", "residual", "vanishing"],
    "Blocks and parameters": [
        "block",
        "sequential",
        "constants",
        "parameters",
        "initialization",
        "tied",
        "layers",
        "files",
    ],
    "From pixels to features": [
        "cross_correlation",
        "conv2d",
        "edges",
        "vertical_edge",
        "learn_kernel",
        "shapes",
        "channels",
        "one_by_one",
        "pooling",
        "lenet",
    ],
    "Training and testing": ["normalize", "batch_norm", "best_epoch"],
    "Learning": [
        "regression",
        "regression_linear",
        "stacked_linear",
        "activations",
        "problems",
        "losses",
        "cross_entropy",
        "momentum",
        "adam",
        "optimizers",
    ],
}

# Imports that a page needs and its computation does not.
PAGE_ONLY = ("__future__", "cnnlab.lessons.view", "cnnlab.lessons.pictures")


@dataclass(frozen=True)
class Lesson:
    """One module of this package, and the chapter that it stands in."""

    name: str
    chapter: str

    @cached_property
    def source(self) -> str:
        return Path(__file__).with_name(f"{self.name}.py").read_text(encoding="utf-8")

    @cached_property
    def _docstring(self) -> str:
        return ast.get_docstring(ast.parse(self.source)) or ""

    @property
    def title(self) -> str:
        return self._docstring.splitlines()[0].rstrip(".")

    @property
    def about(self) -> str:
        """What and why: the docstring between its title and its question."""
        return self._docstring.partition("\n")[2].partition("Question:")[0].strip("\n")

    @property
    def ending(self) -> str:
        """The question, its answer, and the command that shows the same on real data."""
        _, mark, rest = self._docstring.partition("Question:")
        return mark + rest

    @property
    def code(self) -> str:
        """The lines that do the work: what stands above `show`, without what only the page needs."""
        docstring, *nodes = ast.parse(self.source).body
        page_only = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module in PAGE_ONLY]
        show = next(n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == "show")
        dropped = {line for node in page_only for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        kept = range((docstring.end_lineno or 0) + 1, show.lineno)
        lines = self.source.splitlines()
        code = "\n".join(lines[i - 1] for i in kept if i not in dropped).strip()
        return re.sub("\n{4,}", "\n\n\n", code).replace(" -> Values:", ":")

    @property
    def has_picture(self) -> bool:
        return "\ndef draw(" in self.source

    @cached_property
    def module(self) -> ModuleType:
        """The lesson itself; importing it imports torch."""
        return importlib.import_module(f"cnnlab.lessons.{self.name}")


COURSE = {name: Lesson(name, chapter) for chapter, names in CHAPTERS.items() for name in names}


def find_lesson(name: str) -> Lesson:
    """The lesson of that name; a ConfigError with near matches if there is none."""
    if name not in COURSE:
        raise ConfigError(f"lesson: no '{name}'; {suggest(name, [*COURSE, 'all'])}")
    return COURSE[name]
