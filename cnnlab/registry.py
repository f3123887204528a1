"""Names in YAML → functions that build. One instance a group; `conf/<group>/<name>.yaml` names an entry.

    @MODELS.register
    def lenet(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module: ...

The registered name is the function's name. What the dataset tells (classes, channels, size) or the
loop hands over (parameters to optimize) is *supplied*; every other keyword argument is the user's,
and stands in YAML beside `name`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from cnnlab.errors import ConfigError
from cnnlab.signature import check_arguments, keyword_arguments, suggest

Builder = TypeVar("Builder", bound=Callable[..., Any])


class Registry:
    """The builders of one group, such as models, by name.

    `shared` is a dataclass of the keys that concern every entry alike: they may stand in YAML beside any
    builder's arguments, which know nothing of them, and are read by `read_shared`.
    """

    def __init__(self, group: str, supplied: tuple[str, ...] = (), shared: type | None = None):
        self.group = group
        self.supplied = supplied
        self._shared = shared
        self._builders: dict[str, Callable[..., Any]] = {}

    def register(self, builder: Builder) -> Builder:
        """Decorator: file `builder` under its own name. A second builder of that name is refused."""
        name = builder.__name__
        if name in self._builders:
            first = self._builders[name].__module__
            raise ConfigError(
                f"{self.group} '{name}' is registered twice: by {first} and by {builder.__module__}; "
                "rename one of the functions"
            )
        self._builders[name] = builder
        return builder

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._builders))

    def __contains__(self, name: object) -> bool:
        return name in self._builders

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self._builders:
            raise ConfigError(f"{self.group}: no '{name}'; {suggest(name, self._builders)}")
        return self._builders[name]

    def arguments(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword arguments of an entry that are the user's to set."""
        parameters = keyword_arguments(self[name])
        return {key: p for key, p in parameters.items() if key not in self.supplied}

    def check(self, where: str, given: Any) -> list[str]:
        """Every problem of a group's YAML: `given` is a mapping with `name` and keyword arguments."""
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            return [f"{where}: {given!r} was given; expected a mapping with the key 'name'"]
        if given["name"] not in self:
            return [f"{where}.name: no '{given['name']}'; {suggest(given['name'], self)}"]
        arguments = {key: value for key, value in given.items() if key != "name"}
        return check_arguments(where, arguments, self.arguments(given["name"]) | self.shared_arguments())

    def shared_arguments(self) -> dict[str, inspect.Parameter]:
        """The keys that may stand beside any entry's own."""
        return keyword_arguments(self._shared) if self._shared else {}

    def read_shared(self, given: Mapping[str, Any]) -> Any:
        """The keys of a checked YAML that concern every entry, in the dataclass of this registry."""
        assert self._shared is not None, f"{self.group} has no shared keys"
        return self._shared(**{key: value for key, value in given.items() if key in self.shared_arguments()})

    def build(self, given: Mapping[str, Any], **supplied: Any) -> Any:
        """Call the entry that `given["name"]` names, with its other keys and what it wants of `supplied`."""
        builder = self[given["name"]]
        wanted = keyword_arguments(builder)
        arguments = {key: value for key, value in given.items() if key not in {"name", *self.shared_arguments()}}
        return builder(**arguments, **{k: v for k, v in supplied.items() if k in wanted})
