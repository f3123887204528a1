"""`cnnlab list`: what can be chosen, with the first line that each says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from cnnlab.config import import_modules
from cnnlab.experiment import REGISTRIES
from cnnlab.train import CONF

GROUPS = {
    "models": ["model"],
    "datasets": ["dataset"],
    "augments": ["crop", "augment", "mix"],
    "optimizers": ["optimizer"],
    "schedules": ["schedule"],
    "losses": ["loss"],
    "inits": ["model.init"],
}


def print_lists(whats: Iterable[str], imports: list[str]) -> None:
    """Print the entries of each list named in `whats`, such as "models" or "experiments"."""
    import_modules(imports)
    for what in whats:
        entries = list_experiments() if what == "experiments" else list_builders(GROUPS[what])
        print(f"{what}:")
        width = max((len(name) for name in entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}".rstrip())


def list_builders(groups: Iterable[str]) -> dict[str, str]:
    registries = [REGISTRIES[group] for group in groups]
    return {name: (inspect.getdoc(r[name]) or "").partition("\n")[0] for r in registries for name in r}


def list_experiments() -> dict[str, str]:
    """Each file under conf/experiment with its first comment that is not for Hydra."""
    entries = {}
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        entries[name] = first_comment(path)
    return entries


def first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""
