"""The settings of a sweep, checked: the group `sweep` of YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from cnnlab.durations import Time
from cnnlab.errors import ConfigError
from cnnlab.metrics import VALID_COLUMNS
from cnnlab.signature import Count, OneOf, Range, Whole, keyword_arguments, read_arguments


@dataclass(frozen=True)
class OnFailure:
    """What a failed trial means for the others, and how often it is tried again."""

    stops: bool
    num_retries: int
    expected: ClassVar[str] = "continue, stop or retry:N"

    @classmethod
    def parse(cls, text: str) -> OnFailure:
        """Raises ValueError, saying what was expected."""
        match = re.fullmatch(r"continue|stop|retry:(\d{1,3})", text)
        if not match:
            raise ValueError(f"{text!r} was given; expected {cls.expected}")
        return cls(text == "stop", int(match[1] or 0))

    def __str__(self) -> str:
        return "stop" if self.stops else f"retry:{self.num_retries}" if self.num_retries else "continue"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How trials are chosen, judged and carried out. What each is for is said in conf/sweep/default.yaml."""

    space: dict[str, Any]
    seeds: Count
    trials: Count | None
    sampler: Literal["auto", "grid", "random", "tpe", "cmaes", "gp", "qmc"]
    seed: Whole
    metric: Literal["auto"] | Annotated[str, OneOf(VALID_COLUMNS)]
    pruner: Literal["none", "asha", "median", "patience"]
    reduction: Annotated[int, Range(at_least=2)]
    min_epochs: Count
    startup: Whole
    patience: Count
    workers: Literal["auto"] | Count
    on_failure: OnFailure
    max_time: Time | None

    @property
    def searches(self) -> str | None:
        """The sampler that draws configurations; None where every combination is tried."""
        if self.sampler == "auto":
            return "tpe" if self.trials is not None else None
        return None if self.sampler == "grid" else self.sampler


def parse_settings(given: Any) -> Settings:
    """Raises ConfigError with every problem."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"sweep: {given!r} was given; expected a mapping of settings, or a file of conf/sweep")
    found, problems = read_arguments("sweep", given, keyword_arguments(Settings))
    if problems:
        raise ConfigError(problems)
    settings = Settings(**found)
    if settings.searches and settings.trials is None:
        raise ConfigError(f"sweep.trials: missing; expected how many configurations {settings.searches} is to draw")
    if settings.searches is None and settings.trials is not None:
        raise ConfigError("sweep.trials, sweep.sampler: a number and grid, which tries all; expected one of them")
    return settings
