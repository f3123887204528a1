"""The lessons in their order, and what a lesson is: one file, read like a page.

    \"\"\"Title, in one line.

    Stands on: the lessons that come before it.

    What and why, in a few paragraphs. $y = w · x + b$ is a formula; indented lines are formulas,
    tables or, after >>>, code.

    Question: What a reader may ask now?
    Answer: ...

    On real data: ...

        cnnlab inspect ...
    \"\"\"

    def compute(*, key: Type = default) -> Values: ...      a pure function: same keys, same values
    def show(values: Values) -> Parts: ...                  the numbers, and what they say
    def draw(values: Values, figure: Figure) -> None: ...   where a learner would draw
    EXERCISES = [Exercise(...), ...]                        two or three

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
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.script import Script, write_script
from cnnlab.signature import suggest

CHAPTERS = {
    "What a convolution is": [
        "cross_correlation",
        "edges",
        "vertical_edge",
        "padding",
        "stride",
        "shapes",
        "channels",
        "conv",
        "one_by_one",
        "max_pool",
        "pooling",
    ],
    "Learning, from a line on": [
        "from_numpy",
        "regression",
        "regression_linear",
        "in_place",
        "learn_kernel",
        "overwritten",
    ],
    "From a line to a network": [
        "stacked_linear",
        "activations",
        "dense_to_conv",
        "problems",
        "losses",
        "cross_entropy",
        "one_hot",
        "combined_losses",
    ],
    "Blocks and parameters": [
        "layers",
        "block",
        "sequential",
        "conv2d",
        "constants",
        "parameters",
        "initialization",
        "init_blocks",
        "tied",
        "files",
        "gpu",
    ],
    "How a step is taken": [
        "momentum",
        "adam",
        "optimizers",
        "schedules",
    ],
    "Training and testing": [
        "normalize",
        "augmentation",
        "batch_norm",
        "averages",
        "best_epoch",
        "repeat",
    ],
    "Networks": [
        "lenet",
        "small_kernels",
        "pool_order",
        "bottleneck",
        "groups",
        "inception",
        "vanishing",
        "residual",
        "residual_variants",
        "densenet",
        "fine_tuning",
    ],
    "Cases from start to end": [
        "case_line",
        "case_mnist",
        "case_fashion",
        "case_cifar10",
        "case_dog_breeds",
        "case_cats_dogs",
    ],
}

PURPOSES = {
    "What a convolution is": "windows, padding, stride, channels",
    "Learning, from a line on": "gradient descent, up to a kernel",
    "From a line to a network": "bends, losses, and why convolutions",
    "Blocks and parameters": "modules, their weights, starts and files",
    "How a step is taken": "momentum, Adam and others, schedules",
    "Training and testing": "normalise, augment, measure honestly",
    "Networks": "LeNet to DenseNet, and weights of others",
    "Cases from start to end": "six whole problems, their curves and traps",
}


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
    def stands_on(self) -> list[str]:
        """The lessons that this one takes for granted."""
        match = re.search(r"^Stands on: ([^.]*)\.$", self._docstring, re.MULTILINE)
        return [] if match is None else [name for name in re.split(r",\s*", match.group(1)) if name in COURSE]

    @property
    def about(self) -> str:
        """What and why: the docstring between what the lesson stands on and its question."""
        text = self._docstring.partition("\n")[2].partition("Question:")[0]
        return re.sub(r"^Stands on: [^.]*\.$\n*", "", text.strip("\n"), flags=re.MULTILINE).strip("\n")

    @property
    def ending(self) -> str:
        """The questions, their answers, and the command that shows the same on real data."""
        _, mark, rest = self._docstring.partition("Question:")
        return mark + rest

    @cached_property
    def script(self) -> Script:
        """What does the work, as a script of torch alone."""
        return write_script(self.name)

    @property
    def has_picture(self) -> bool:
        return "\ndef draw(" in self.source

    @cached_property
    def module(self) -> ModuleType:
        """The lesson itself; importing it imports torch."""
        return importlib.import_module(f"cnnlab.lessons.{self.name}")

    @property
    def exercises(self) -> list[Exercise]:
        return self.module.EXERCISES

    @property
    def number(self) -> int:
        """Counted through the course, from 1."""
        return list(COURSE).index(self.name) + 1

    @property
    def before(self) -> Lesson | None:
        return list(COURSE.values())[self.number - 2] if self.number > 1 else None

    @property
    def after(self) -> Lesson | None:
        return list(COURSE.values())[self.number] if self.number < len(COURSE) else None


COURSE = {name: Lesson(name, chapter) for chapter, names in CHAPTERS.items() for name in names}


def find_lesson(name: str) -> Lesson:
    """The lesson of that name; a ConfigError with near matches if there is none."""
    if name not in COURSE:
        raise ConfigError(f"lesson: no '{name}'; {suggest(name, [*COURSE, 'all'])}")
    return COURSE[name]


def chapters_before(chapter: str) -> dict[str, int]:
    """The chapters whose lessons this one's stand on, in order, and by how many threads: arrows of the course's map."""
    needed = [COURSE[other].chapter for name in CHAPTERS[chapter] for other in COURSE[name].stands_on]
    return {other: needed.count(other) for other in CHAPTERS if other in needed and other != chapter}
