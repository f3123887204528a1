"""Names in YAML → functions that build. One instance a group; `conf/<group>/<name>.yaml` names an entry.

    @MODELS.register
    def lenet(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module: ...

The registered name is the function's name. What the dataset tells (classes, channels, size) or the
loop hands over (parameters to optimize) is *supplied*; every other keyword argument is the user's,
and stands in YAML beside `name`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from cnnlab.errors import ConfigError
from cnnlab.signature import as_yaml, keyword_arguments, read_arguments, suggest

Builder = TypeVar("Builder", bound=Callable[..., Any])
Shared = TypeVar("Shared")


@dataclass(frozen=True)
class Component(Generic[Shared]):
    """What a configuration has chosen in a group: a builder, its arguments, and what every builder there shares."""

    name: str
    builder: Callable[..., Any] = field(repr=False, compare=False)
    arguments: Mapping[str, Any]  # of the builder's own, defaults filled in
    shared: Shared

    def build(self, **supplied: Any) -> Any:
        """Call the builder with its arguments and with what it wants of `supplied`."""
        wanted = keyword_arguments(self.builder)
        return self.builder(**self.arguments, **{key: value for key, value in supplied.items() if key in wanted})

    def bind(self) -> Callable[..., Any]:
        """The builder as a function of what is supplied alone: one that is called over and over."""
        return partial(self.builder, **self.arguments)

    def as_yaml(self) -> dict[str, Any]:
        """The mapping that this was read from, with every default."""
        return {"name": self.name, **as_yaml(self.arguments), **(as_yaml(self.shared) if self.shared else {})}


class Registry(Collection[str], Generic[Shared]):
    """The builders of one group, such as models, by name.

    `shared` is a dataclass of the keys that concern every entry alike: they may stand in YAML beside any
    builder's arguments, which know nothing of them. If it has a method `find_problems`, that tells what is wrong with
    these keys beside each other, as sentences that begin with the key.
    """

    def __init__(self, group: str, supplied: tuple[str, ...] = (), shared: type[Shared] | None = None):
        self.group = group
        self.supplied = supplied
        self._shared = shared
        self._builders: dict[str, Callable[..., Any]] = {}

    def register(self, builder: Builder) -> Builder:
        """Decorator: file `builder` under its own name.

        Raises ConfigError for a name that is taken, and for an argument with the name of a shared key.
        """
        name = builder.__name__
        if name in self._builders:
            first = self._builders[name].__module__
            raise ConfigError(
                f"{self.group} '{name}' is registered twice: by {first} and by {builder.__module__}; "
                "rename one of the functions"
            )
        taken = [key for key in inspect.signature(builder).parameters if key in self.shared_arguments()]
        if taken:
            raise ConfigError(
                f"{self.group} '{name}': its argument {', '.join(taken)} is a key of every {self.group}; rename it"
            )
        self._builders[name] = builder
        return builder

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._builders))

    def __len__(self) -> int:
        return len(self._builders)

    def __contains__(self, name: object) -> bool:
        return name in self._builders

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self._builders:
            raise ConfigError(f"{self.group}: no '{name}'; {suggest(name, self)}")
        return self._builders[name]

    def arguments(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword arguments of an entry that are the user's to set."""
        return {key: p for key, p in keyword_arguments(self[name]).items() if key not in self.supplied}

    def shared_arguments(self) -> Mapping[str, inspect.Parameter]:
        """The keys that may stand beside any entry's own."""
        return keyword_arguments(self._shared) if self._shared else {}  # type: ignore[arg-type]

    def parse(self, where: str, given: Any) -> tuple[Component[Shared] | None, list[str]]:
        """What a group's YAML chooses, or None and every problem of it.

        `given` is a mapping with `name` and keyword arguments; `where` is the configuration path that it stands under.
        """
        if not isinstance(given, Mapping):
            return None, [f"{where}: {given!r} was given; expected a mapping with the key 'name'"]
        name = given.get("name")
        if not isinstance(name, str):
            return None, [f"{where}.name: {name!r} was given; expected one of {', '.join(self)}"]
        if name not in self:
            return None, [f"{where}.name: no '{name}'; {suggest(name, self)}"]
        own, common = self.arguments(name), self.shared_arguments()
        arguments = {key: value for key, value in given.items() if key != "name"}
        found, problems = read_arguments(where, arguments, {**own, **common})
        if problems:
            return None, problems
        defaults = {key: p.default for key, p in own.items()}
        shared: Any = self._shared and self._shared(**{key: found.pop(key) for key in common if key in found})
        if hasattr(shared, "find_problems"):
            problems = [f"{where}.{problem}" for problem in shared.find_problems()]
        return (None if problems else Component(name, self[name], defaults | found, shared)), problems
