"""`cnnlab list`: what can be chosen, with the first line that each says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from cnnlab.composition import CONF
from cnnlab.config import REGISTRIES, STAGES
from cnnlab.keys import first_comment
from cnnlab.models import DATA_INITS, INITS
from cnnlab.plugins import import_modules
from cnnlab.registry import Registry

LISTS: dict[str, Iterable[Registry[Any]]] = {
    "models": [REGISTRIES["model"]],
    "datasets": [REGISTRIES["dataset"]],
    "augments": STAGES.values(),
    "optimizers": [REGISTRIES["optimizer"]],
    "schedules": [REGISTRIES["schedule"]],
    "losses": [REGISTRIES["loss"]],
    "averages": [REGISTRIES["average"]],
    "inits": [INITS, DATA_INITS],
}


def print_lists(whats: Iterable[str], imports: list[str]) -> None:
    """Print the entries of each list named in `whats`, such as "models" or "experiments"."""
    import_modules(imports)
    for what in whats:
        entries = list_experiments() if what == "experiments" else list_builders(LISTS[what])
        print(f"{what}:")
        width = max((len(name) for name in entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}".rstrip())


def list_builders(registries: Iterable[Registry[Any]]) -> dict[str, str]:
    return {name: (inspect.getdoc(r[name]) or "").partition("\n")[0] for r in registries for name in r}


def list_experiments() -> dict[str, str]:
    """Each file under conf/experiment with its first comment that is not for Hydra."""
    entries = {}
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        entries[name] = first_comment(path)
    return entries
