"""Overrides and YAML to a configuration, by Hydra, with every mistake told beside all others.

Two things are arranged around Hydra, so that a mistake is told with the nearest valid name: a misspelt group choice is
found before composing, and an unknown key is let through composing to the checks of `config.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab.distributed import num_processes
from cnnlab.errors import ConfigError
from cnnlab.recipes import compose_choices, leave_out_unchosen
from cnnlab.signature import suggest

if TYPE_CHECKING:
    from cnnlab.config import Config

_PACKAGE = Path(__file__).parent
# Beside the package in a checkout, inside it in a wheel.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())

# A plain `key=value`: what Hydra calls an addition (+), a deletion (~) or a package (@) is not one.
PLAIN = re.compile(r"(?P<key>[A-Za-z_][\w./]*)=(?P<value>.*)", re.DOTALL)
OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@:]*(=.*)?", re.DOTALL)
CHOICES = re.compile(r"[\w/-]+(,\s*[\w/-]+)*")
SWEEP_KEY = re.compile(r"\+*sweep[.=]")  # a setting of a sweep, none of its runs


# What Hydra raises over overrides and flags that it did not foresee, beside exceptions of its own.
COMPOSING = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError)

MULTIRUN = ("-m", "--multirun")
FLAGS_WITH_VALUES = (
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--cfg",
    "-c",
    "--package",
    "-p",
)

REFUSED = {"--experimental-rerun": "it runs code that a file holds; expected cnnlab reproduce RUN or cnnlab resume RUN"}


# --- What is typed ----------------------------------------------------------------------------------


def find_config_dirs(arguments: list[str]) -> list[Path]:
    """The folders that --config-dir (-cd) adds to the search."""
    found = []
    for text, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if text in ("--config-dir", "-cd"):
            found.append(Path(following))
        elif text.startswith("--config-dir="):
            found.append(Path(text.partition("=")[2]))
    return found


def read_overrides(arguments: Sequence[str]) -> list[str]:
    """What is typed, without the flags of the command line and their values."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [text for before, text in pairs if not text.startswith("-") and before not in FLAGS_WITH_VALUES]


def list_choices(group: str, folders: list[Path]) -> set[str]:
    """What may be chosen in a group: its YAML files, by name."""
    return {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders
        for path in (folder / group).rglob("*.yaml")
    }


def let_through(text: str, folders: list[Path]) -> str:
    """`key=value` as an addition, so that composing accepts any key; our own check knows the valid ones."""
    plain = PLAIN.fullmatch(text)
    if not plain or "/" in plain["key"] or plain["key"].startswith("hydra.") or list_choices(plain["key"], folders):
        return text
    return f"++{text}"


def check_overrides(arguments: list[str], folders: list[Path], *, is_planned: bool = False) -> None:
    """Raises ConfigError for a choice that no group has, and for any problem of a run of Hydra's multirun.

    A single run without such a choice is left to the checks of its job, and a sweep that `is_planned` to those of its
    plan: each is composed only once.
    """
    problems, rest = [], []
    problems += [f"{flag}: {reason}" for flag, reason in REFUSED.items() if flag in arguments]
    missing = [folder for folder in folders if not folder.is_dir()]
    problems += [f"--config-dir {folder}: is no folder; expected one with YAML groups" for folder in missing]
    if set(MULTIRUN) & set(arguments) and any(re.fullmatch(r"--cfg(=.*)?|-c", text) for text in arguments):
        problems.append("--cfg: shows one configuration; expected it without -m, and one value of each key")
    if num_processes() > 1 and set(MULTIRUN) & set(arguments):
        problems.append("--multirun: one run at a time under torchrun; expected a torchrun for each value")
    if not set(MULTIRUN) & set(arguments):
        swept = [text for text in arguments if SWEEP_KEY.match(text)]
        problems += [f"{text}: is for many runs; expected it beside -m" for text in swept]
    for text in read_overrides(arguments):
        plain = PLAIN.fullmatch(text)
        choices = list_choices(plain["key"], folders) if plain else set()
        unknown = []
        names = re.sub(r"^\[(.*)\]$", r"\1", plain["value"]) if plain else ""  # of several at once
        if plain and choices and names and CHOICES.fullmatch(names):
            unknown = [c.strip() for c in names.split(",") if c.strip() not in choices]
            problems += [f"{plain['key']}: no '{choice}'; {suggest(choice, choices)}" for choice in unknown]
        if OVERRIDE.fullmatch(text) and not unknown:
            rest.append(text)
    if problems or (set(MULTIRUN) & set(arguments) and not is_planned):
        try:
            variants = expand_sweep(rest)
        except COMPOSING as error:
            raise ConfigError([*problems, *explain(error).problems]) from error
        problems += [problem for variant in variants for problem in find_problems(variant, folders)]
    if problems:
        raise ConfigError(dict.fromkeys(problems))  # each once


def expand_sweep(overrides: list[str]) -> list[list[str]]:
    """The configurations that show every value of every swept key once, beside the first of the others.

    So each value is checked before the first run, though not each combination of them.
    """
    values = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.get_key_element()
        if override.value_type == ValueType.INTERVAL_SWEEP:
            ends: Any = override.value()
            values.append([f"{key}={ends.start}", f"{key}={ends.end}"])
        elif override.is_sweep_override():
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            values.append([str(override.input_line)])
    first = [options[0] for options in values]
    others = [
        [*first[:index], option, *first[index + 1 :]] for index, options in enumerate(values) for option in options[1:]
    ]
    return [first, *others]


def find_problems(overrides: list[str], folders: list[Path]) -> list[str]:
    """The problems of one configuration, composed aside."""
    try:
        compose_aside(overrides, folders)
    except ConfigError as error:
        return error.problems
    return []


def compose(overrides: list[str], config_dirs: list[str]) -> Config:
    """The configuration that `cnnlab train` would run. Raises ConfigError with all problems."""
    folders = [CONF, *(Path(folder) for folder in config_dirs)]
    check_overrides(overrides, folders)
    return compose_aside(overrides, folders)


def compose_sweep(overrides: list[str], config_dirs: list[str]) -> dict[str, Config]:
    """The configurations of `expand_sweep`, by what each has that others have not. Raises ConfigError."""
    folders = [CONF, *(Path(folder) for folder in config_dirs)]
    check_overrides(["-m", *overrides], folders)
    variants = expand_sweep(overrides)
    shared = set.intersection(*(set(variant) for variant in variants))
    return {
        " ".join(text for text in variant if text not in shared): compose_aside(variant, folders)
        for variant in variants
    }


def compose_aside(overrides: list[str], folders: list[Path]) -> Config:
    """One configuration, composed without running a job. Raises ConfigError."""
    from cnnlab.config import parse

    return parse(resolve(compose_tree(overrides, folders)))


def compose_tree(overrides: list[str], folders: list[Path]) -> DictConfig:
    """What Hydra composes, ${…} not filled in. Raises ConfigError."""
    return compose_with_choices(overrides, folders)[0]


def compose_with_choices(overrides: list[str], folders: list[Path]) -> tuple[DictConfig, Mapping[str, Any]]:
    """The same, and what is chosen in each group."""
    extra = [f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders[1:])}]"]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            given = [let_through(text, folders) for text in overrides] + extra
            composed, choices = compose_choices(given)
            return leave_out_unchosen(composed, choices, given), choices
    except COMPOSING as error:
        raise explain(error, overrides, folders) from error


def can_compose(override: str, folders: Sequence[Path]) -> bool:
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            hydra.compose("train", [let_through(override, list(folders))])
    except COMPOSING:
        return False
    return True


def resolve(composed: DictConfig) -> dict[str, Any]:
    """The composed tree in plain containers, ${…} filled in. Raises ConfigError for one that leads nowhere."""
    try:
        tree: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise explain(error) from error
    tree.pop("sweep", None)  # of many runs, none of a single one
    return tree


def explain(error: Exception, overrides: Sequence[str] = (), folders: Sequence[Path] = (CONF,)) -> ConfigError:
    """What Hydra, OmegaConf or YAML could not compose, with the nearest valid name where one is missing.

    Where they do not say of which of the `overrides`, it is those that cannot be composed alone.
    """
    text = str(error)
    if not isinstance(error, (HydraException, OmegaConfBaseException, yaml.YAMLError)):
        guilty = [text for text in overrides if OVERRIDE.fullmatch(text) and not can_compose(text, folders)]
        what = ", ".join(guilty) or "these overrides and options"
        return ConfigError(f"{what}: cannot be composed ({text}); expected KEY=VALUE, as in --help")
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        wanted = Path(error.missing_cfg_file).name
        text = f"{text.splitlines()[0]}; {suggest(wanted, error.options)}"
    elif error.__cause__ is not None and str(error.__cause__) not in text:
        text = f"{text} ({error.__cause__})"
    return ConfigError(text)
