"""Parts of a network as a user names them: `layer1` is every parameter whose dotted name starts with that part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnlab.errors import ConfigError
from cnnlab.signature import suggest


def starts(name: str, prefix: str) -> bool:
    """Whether a dotted name is `prefix` or lies below it: `layer1` is no start of `layer10.weight`."""
    return f"{name}.".startswith(f"{prefix}.")


def require_prefixes(where: str, prefixes: Iterable[str], names: Sequence[str]) -> None:
    """Raises ConfigError telling each of `prefixes` that is no start of any of `names`; `where` they were given."""
    unknown = [prefix for prefix in prefixes if not any(starts(name, prefix) for name in names)]
    parts = {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)}
    whole = sorted({name.partition(".")[0] for name in names})
    if unknown:
        raise ConfigError(
            [
                f"{where}: no parameter's name starts with '{prefix}'; {suggest(prefix, parts, whole)}"
                for prefix in unknown
            ]
        )
