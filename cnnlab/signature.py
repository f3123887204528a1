"""What a signature says about its keyword arguments: which there are, their types, their ranges.

The same reading serves the dataclasses of `config.py` and every builder in a registry, so a bound is
written once, in the annotation of the argument that it bounds:

    def sgd(params, *, lr: Positive, momentum: Fraction = 0.0): ...

A value from YAML is read once, into what its annotation says: `unfreeze_after: Duration | None` turns "2 epochs"
into a `Duration`, by the `parse` of that class. `as_yaml` is the way back.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union

from cnnlab.errors import abridge

# --- Marks: what an annotation says beside a type -----------------------------------------------------


class Range(typing.NamedTuple):
    """Bounds that a number keeps; `above` and `below` are exclusive, the others inclusive."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None

    def check(self, value: float) -> None:
        """Raises ValueError."""
        if not (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        ):
            raise ValueError

    def __str__(self) -> str:
        words = [
            ("above", self.above),
            ("at least", self.at_least),
            ("at most", self.at_most),
            ("below", self.below),
        ]
        return " and ".join(f"{word} {bound:,.15g}" for word, bound in words if bound is not None)


class Ascending(typing.NamedTuple):
    """Of two numbers the second is no smaller."""

    def check(self, value: tuple[float, float]) -> None:
        """Raises ValueError."""
        if value[0] > value[1]:
            raise ValueError

    def __str__(self) -> str:
        return "in ascending order"


class OneOf(typing.NamedTuple):
    """A name among those of a registry, as they are when a value is read."""

    names: Collection[str]

    def check(self, value: str) -> None:
        """Raises ValueError with the nearest names."""
        if value not in self.names:
            raise ValueError(f"no '{value}'; {suggest(value, self.names)}")

    def __str__(self) -> str:
        return "among " + ", ".join(self.names)


class Meaning(typing.NamedTuple):
    """What a text stands for, in words that take the place of its type's name."""

    words: str

    def check(self, value: str) -> None:
        """Any text will do; whoever uses it knows more."""

    def __str__(self) -> str:
        return self.words


MARKS = (Range, Ascending, OneOf, Meaning)
MAX_INT = 2**63 - 1

Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Fraction = Annotated[float, Range(at_least=0, at_most=1)]
Share = Annotated[float, Range(above=0, at_most=1)]
BelowOne = Annotated[float, Range(at_least=0, below=1)]  # a part of which something else has to remain
WeightDecay = Annotated[float, Range(at_least=0, at_most=100)]  # above 1 / lr a step would turn weights around
Count = Annotated[int, Range(at_least=1)]
Whole = Annotated[int, Range(at_least=0)]
Number = TypeVar("Number")
Interval = Annotated[tuple[Number, Number], Ascending()]

# --- Names ----------------------------------------------------------------------------------------


def suggest(name: str, valid: Iterable[str], shown: Iterable[str] | None = None) -> str:
    """The end of a message about an unknown `name`: its near matches, and otherwise what is valid.

    Of a long list the first ten are told; `shown` stands for it where it is too long even for that.
    """
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"valid here: {abridge(valid if shown is None else shown)}" if valid else "nothing is valid here"


# --- Reading --------------------------------------------------------------------------------------


def describe(annotation: Any) -> str:
    """An annotation in words: `float above 0`, `int or null`, `one of a, b`."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *marks = typing.get_args(annotation)
        meanings = [str(mark) for mark in marks if isinstance(mark, Meaning)]
        if meanings:
            return " ".join(meanings)
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
    return str(getattr(annotation, "expected", None) or getattr(annotation, "__name__", annotation))


def read(annotation: Any, value: Any) -> Any:
    """`value` from YAML as `annotation` has it. An int is a float; a bool is neither; a list becomes a tuple if asked.

    Raises ValueError: with a sentence where the type or a mark has one of its own, else with none.
    """
    origin = typing.get_origin(annotation)
    if annotation in (Any, inspect.Parameter.empty):
        return value
    if origin is Annotated:
        base, *marks = typing.get_args(annotation)
        if base is not int or type(value) is not int:  # a bound of its own is told before that of every int
            value = read(base, value)
        for mark in marks:
            if isinstance(mark, MARKS) and value is not None:
                mark.check(value)
        return read(base, value) if base is int else value
    if origin in (Union, types.UnionType):
        return _read_union(typing.get_args(annotation), value)
    if origin is Literal:
        wanted = value if not isinstance(value, bool) else "on" if value else "off"  # a bare off in YAML
        if wanted not in typing.get_args(annotation):
            raise ValueError
        return wanted
    if origin in (list, tuple):
        inner = [part for part in typing.get_args(annotation) if part is not Ellipsis]
        if not isinstance(value, (list, tuple)) or (len(inner) > 1 and len(value) != len(inner)):
            raise ValueError
        return origin(read(inner[0], item) for item in value)
    if origin is dict:
        names, values = typing.get_args(annotation)
        if not isinstance(value, Mapping):
            raise ValueError
        return {read(names, key): read(values, item) for key, item in value.items()}
    return _read_plain(annotation, value)


def _read_union(parts: Iterable[Any], value: Any) -> Any:
    """The first of `parts` that `value` can be; the ValueError of the last one that says why it cannot."""
    reason = ValueError()
    for part in parts:
        try:
            return read(part, value)
        except ValueError as error:
            reason = error if str(error) else reason
    raise reason


def _read_plain(annotation: Any, value: Any) -> Any:
    if annotation is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    elif annotation is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        if fits and abs(value) > MAX_INT:
            raise ValueError(f"{value} was given; expected a whole number of 64 bits, at most {MAX_INT:,}")
    elif annotation is type(None):
        fits = value is None
    elif hasattr(annotation, "parse") and isinstance(value, str):
        return annotation.parse(value)
    else:
        fits = isinstance(value, annotation)
    if not fits:
        raise ValueError
    return value


@cache
def keyword_arguments(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The keyword arguments of a builder (or the fields of a dataclass), annotations resolved."""
    hints = typing.get_type_hints(function, include_extras=True)
    if inspect.isclass(function):
        hints = typing.get_type_hints(function.__init__, include_extras=True) | hints
    parameters = inspect.signature(function).parameters.values()
    return types.MappingProxyType(
        {
            p.name: p.replace(annotation=hints.get(p.name, p.annotation))
            for p in parameters
            if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        }
    )


def read_arguments(
    where: str, given: Mapping[Any, Any], parameters: Mapping[str, inspect.Parameter]
) -> tuple[dict[str, Any], list[str]]:
    """What is right of `given` (keys from YAML) as `parameters` have it, and every problem as one sentence.

    `where` is the configuration path that the keys stand under, such as "optimizer".
    """
    found, problems = {}, []
    for key, value in given.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in parameters:
            problems.append(f"{path}: no such key; {suggest(str(key), parameters)}")
            continue
        annotation = parameters[key].annotation
        if value == "???":
            problems.append(f"{path}: a value is needed: {describe(annotation)}; give {path}=…")
            continue
        try:
            found[key] = read(annotation, value)
        except ValueError as error:
            problems.append(f"{path}: {str(error) or f'{value!r} was given; expected {describe(annotation)}'}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given:
            path = f"{where}.{key}" if where else key
            problems.append(f"{path}: missing; expected {describe(parameter.annotation)}")
    return found, problems


def as_yaml(value: Any) -> Any:
    """What `read` has read, in plain containers again, to be read once more."""
    if hasattr(value, "as_yaml"):
        return value.as_yaml()
    if hasattr(value, "parse"):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {item.name: as_yaml(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: as_yaml(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_yaml(item) for item in value]
    return value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 0.1}} → {"optimizer.lr": 0.1}"""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        is_branch = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if is_branch else {f"{prefix}{key}": value}
    return flat
