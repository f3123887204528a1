"""What a sweep varies: axes, written in Hydra's grammar, and the values that each may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType

from cnnlab.composition import COMPOSING, PLAIN, SWEEP_KEY, explain
from cnnlab.errors import ConfigError


@dataclass(frozen=True)
class Axis:
    """One key and its values: some choices, or numbers from `low` to `high`."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def is_continuous(self) -> bool:
        return not self.choices

    @property
    def num_values(self) -> int | None:
        """How many there are; None of numbers that are not whole."""
        if self.choices:
            return len(self.choices)
        return int(self.high) - int(self.low) + 1 if self.whole else None

    def write(self, value: float) -> str:
        """A number of this axis as it is typed."""
        return repr(round(value)) if self.whole else repr(float(value))

    def read(self, text: str) -> float | str:
        """What `write` wrote; a choice as it is."""
        return text if self.choices else int(text) if self.whole else float(text)

    def draw(self, share: float) -> str:
        """The value at a `share` in [0, 1) of the axis."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        if self.whole:
            if self.log:
                low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
                return str(min(int(self.high), max(int(self.low), round(math.exp(low + share * (high - low))))))
            return str(math.floor(self.low + share * (self.high - self.low + 1)))
        if self.log:
            return repr(math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))))
        return repr(self.low + share * (self.high - self.low))


def split_overrides(
    overrides: Iterable[str], space: Iterable[tuple[str, object]], list_choices: Callable[[str], set[str]]
) -> tuple[list[str], list[Axis]]:
    """What is fixed, and the axes: those typed, and those of a sweep's `space` that are not. Raises ConfigError."""
    typed = [text for text in overrides if not SWEEP_KEY.match(text)]
    keys = {text.lstrip("+~").partition("=")[0] for text in typed}
    texts = typed + [f"{key}={value}" for key, value in space if key not in keys]
    fixed, axes, problems = [], [], []
    for text in texts:
        try:
            override = OverridesParser.create().parse_override(text)
            if override.is_sweep_override():
                axes.append(read_axis(override, list_choices))
            else:
                fixed.append(text)
        except ConfigError as error:
            problems += error.problems
        except COMPOSING as error:
            problems += explain(error, [text]).problems
    if problems:
        raise ConfigError(problems)
    return fixed, axes


def read_axis(override: Override, list_choices: Callable[[str], set[str]]) -> Axis:
    """Raises ConfigError for one without values."""
    key, value = override.get_key_element(), override.value()
    where = key.lstrip("+~")
    if override.value_type == ValueType.INTERVAL_SWEEP:
        low: Any = value.start  # type: ignore[union-attr]
        high: Any = value.end  # type: ignore[union-attr]
        tags = value.tags  # type: ignore[union-attr]
        whole = "int" in tags or (isinstance(low, int) and isinstance(high, int))
        if not low < high or ("log" in tags and low <= 0):
            above = ", both above 0" if "log" in tags else ""
            raise ConfigError(
                f"{where}: {override.input_line} was given; expected interval(low, high), low < high{above}"
            )
        return Axis(key, (), low, high, "log" in tags, whole)
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        choices = value.filter(sorted(list_choices(where)))  # type: ignore[union-attr]
    else:
        choices = list(override.sweep_string_iterator())
    if not choices:
        raise ConfigError(f"{where}: {override.input_line} was given, which is no value; expected some")
    if len(set(choices)) < len(choices):
        raise ConfigError(f"{where}: {override.input_line} has a value twice; expected each once")
    return Axis(key, tuple(choices))


def is_value(key: str, list_choices: Callable[[str], set[str]]) -> bool:
    """Whether a key is set to a value; otherwise it chooses YAML, or adds or takes away, which Hydra composes."""
    return PLAIN.fullmatch(f"{key}=") is not None and "/" not in key and not list_choices(key)
