"""What a signature says about its keyword arguments: which there are, their types, their ranges.

The same check serves the dataclasses of `config.py` and every builder in a registry, so a bound is
written once, in the annotation of the argument that it bounds:

    def sgd(params, *, lr: Positive, momentum: Fraction = 0.0): ...
"""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union

# --- Ranges ---------------------------------------------------------------------------------------


class Range(typing.NamedTuple):
    """Bounds that a number keeps; `above` is exclusive, the others inclusive."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        words = [("above", self.above), ("at least", self.at_least), ("at most", self.at_most)]
        return " and ".join(f"{word} {bound:g}" for word, bound in words if bound is not None)


class Ascending(typing.NamedTuple):
    """Of two numbers the second is no smaller."""

    def holds(self, value: tuple[float, float]) -> bool:
        return value[0] <= value[1]

    def __str__(self) -> str:
        return "in ascending order"


MARKS = (Range, Ascending)

Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Fraction = Annotated[float, Range(at_least=0, at_most=1)]
Share = Annotated[float, Range(above=0, at_most=1)]
Count = Annotated[int, Range(at_least=1)]
Whole = Annotated[int, Range(at_least=0)]
Number = TypeVar("Number")
Interval = Annotated[tuple[Number, Number], Ascending()]

# --- Names ----------------------------------------------------------------------------------------


def suggest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: its near matches, and otherwise all that is valid."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"valid here: {', '.join(valid)}" if valid else "nothing is valid here"


# --- Checks ---------------------------------------------------------------------------------------


def describe(annotation: Any) -> str:
    """An annotation in words: `float above 0`, `int or null`, `one of a, b`."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *marks = typing.get_args(annotation)
        return " ".join([describe(base), *(str(mark) for mark in marks if isinstance(mark, MARKS))])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in typing.get_args(annotation))
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(annotation))
    if origin in (list, tuple):
        inner = [part for part in typing.get_args(annotation) if part is not Ellipsis]
        number = f"{len(inner)} " if len(inner) > 1 else ""
        return f"list of {number}{describe(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping of names to {describe(typing.get_args(annotation)[1])}"
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value from YAML may stand where `annotation` stands. An int is a float; a bool is neither."""
    origin = typing.get_origin(annotation)
    if annotation in (Any, inspect.Parameter.empty):
        return True
    if origin is Annotated:
        base, *marks = typing.get_args(annotation)
        if not accepts(base, value):
            return False
        return value is None or all(mark.holds(value) for mark in marks if isinstance(mark, MARKS))
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in typing.get_args(annotation))
    if origin is Literal:
        return value in typing.get_args(annotation)
    if origin in (list, tuple):
        inner = [part for part in typing.get_args(annotation) if part is not Ellipsis]
        if not isinstance(value, (list, tuple)) or (len(inner) > 1 and len(value) != len(inner)):
            return False
        return all(accepts(inner[0], v) for v in value)
    if origin is dict:
        names, values = typing.get_args(annotation)
        return isinstance(value, Mapping) and all(accepts(names, k) and accepts(values, value[k]) for k in value)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is type(None):
        return value is None
    if isinstance(annotation, type):
        return isinstance(value, annotation)
    return True


def keyword_arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a builder (or the fields of a dataclass), annotations resolved."""
    hints = typing.get_type_hints(function, include_extras=True)
    if inspect.isclass(function):
        hints = typing.get_type_hints(function.__init__, include_extras=True) | hints
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.replace(annotation=hints.get(p.name, p.annotation))
        for p in parameters
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }


def check_arguments(
    where: str,
    given: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
) -> list[str]:
    """Every problem of `given` (keys from YAML) against `parameters`, each as one sentence.

    `where` is the configuration path that the keys stand under, such as "optimizer".
    """
    problems = []
    for key, value in given.items():
        path = f"{where}.{key}" if where else key
        if key not in parameters:
            problems.append(f"{path}: no such key; {suggest(str(key), parameters)}")
        elif value == "???":
            problems.append(f"{path}: a value is needed: {describe(parameters[key].annotation)}")
        elif not accepts(parameters[key].annotation, value):
            wanted = describe(parameters[key].annotation)
            problems.append(f"{path}: {value!r} was given; expected {wanted}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given:
            path = f"{where}.{key}" if where else key
            problems.append(f"{path}: missing; expected {describe(parameter.annotation)}")
    return problems
