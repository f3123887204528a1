"""The configuration of a saved run: read again, and its modules imported only if this user wants that.

A run directory may come from a stranger, and importing a module runs its code. What a user trains is theirs: a run
that is started here is remembered, by its path, its modules and where these lie, under the user's own state. Of
another directory the user is asked at a terminal, or says `--trust`; that is remembered too.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from cnnlab.config import Config, apply_overrides, parse
from cnnlab.distributed import is_main
from cnnlab.errors import ConfigError
from cnnlab.runs.directory import RunDirectory


def split_run(arguments: Sequence[str]) -> tuple[RunDirectory | None, list[str]]:
    """The run that the first argument names, unless that is an override, and the overrides. Raises ConfigError."""
    if arguments and "=" not in arguments[0] and not arguments[0].startswith("~"):
        return RunDirectory.open(arguments[0]), list(arguments[1:])
    return None, list(arguments)


def read_saved(run: RunDirectory, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run, with changes. Raises ConfigError for a damaged one, and for untrusted modules."""
    tree = apply_overrides(run.read_config(), list(overrides))
    modules = tree.get("imports")
    if isinstance(modules, list) and modules:
        require_trust(run, [str(name) for name in modules])
    return parse(tree)


def require_trust(run: RunDirectory, modules: Sequence[str]) -> None:
    """Raises ConfigError unless this user wants the modules that a run names."""
    if is_trusted(run, modules):
        return
    told = ", ".join(f"{name} ({find_origin(name)})" for name in modules)
    if is_main() and sys.stdin is not None and sys.stdin.isatty():
        print(f"{run.config} wants to import {told}, which runs their code.", file=sys.stderr)
        if input("Import them, now and in future? [y/N] ").strip().lower() in ("y", "yes"):
            trust(run, modules)
            return
    raise ConfigError(
        f"{run.config}: imports {told}, and was not written by you on this machine; what it imports runs its code. "
        "To allow it, run the command once with --trust"
    )


def find_origin(name: str) -> str:
    """The file that importing a module would run, found without running anything."""
    top = name.partition(".")[0]
    try:
        spec = PathFinder.find_spec(top, [*sys.path, os.getcwd()]) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "not found"
    return os.path.realpath(spec.origin or next(iter(spec.submodule_search_locations or ())))


# --- Memory -------------------------------------------------------------------------------------------


def is_trusted(run: RunDirectory, modules: Sequence[str]) -> bool:
    """Whether the run, or the cross-validation that it is a fold of, was written by this user or is trusted."""
    whole = RunDirectory(run.path.resolve().parent)
    return not {identify(run, modules), identify(whole, modules)}.isdisjoint(read_trusted())


def grant_trust(paths: Sequence[str]) -> None:
    """Let these runs import what they name, now and in future. Raises ConfigError for what is no run."""
    for path in paths:
        run = RunDirectory.open(path)
        modules = run.read_config().get("imports")
        if isinstance(modules, list) and modules:
            trust(run, [str(name) for name in modules])


def trust(run: RunDirectory, modules: Sequence[str]) -> None:
    """Remember that this user wants a run's modules; where that cannot be written the user is asked again."""
    trusted = read_trusted()
    key = identify(run, modules)
    if key in trusted:
        return
    path = state_file()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps([*trusted, key]), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        print(
            f"{path}: cannot be written ({error}); whether to import {', '.join(modules)} is asked again",
            file=sys.stderr,
        )


def identify(run: RunDirectory, modules: Sequence[str]) -> str:
    """Of a run's place, its modules, and the files that these are now: another of the same name is not trusted."""
    text = "\n".join([str(run.path.resolve()), *(f"{name} {find_origin(name)}" for name in modules)])
    return hashlib.sha256(text.encode()).hexdigest()


def read_trusted() -> list[str]:
    try:
        found = json.loads(state_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def state_file() -> Path:
    """Where this user's own state lies, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "cnnlab", "trusted.json")
