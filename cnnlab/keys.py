"""`cnnlab train --help`: every key, its value and what it is for, as the comments in the YAML files tell it."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from cnnlab.composition import CONF, MULTIRUN, compose_with_choices, expand_sweep, list_choices, read_overrides

# `  key: value  # comment`, or `  - group: choice  # comment` in the list of defaults.
LINE = re.compile(r"(?P<indent> *)(?:- )?(?P<key>\w+):(?:\s+(?P<value>[^\s#].*?))?(?:\s+#\s*(?P<comment>.*))?")
DESCRIPTION = re.compile(r"#   (?P<key>\w+): (?P<comment>.*)")  # before a group: of keys that its choices may have
COLUMN = 36  # where the explanations begin

OPENING = """\
cnnlab train [KEY=VALUE ...]

Trains a network and leaves a run directory. A group is chosen by name (model=lenet), what is inside it is set by a dot
(optimizer.lr=0.1). Below stand the values that this command would take: with other words before --help, such as
model=lenet or experiment=NAME, those of another one.
"""
FLAGS = {
    "-m": "a sweep: values with commas or in Hydra's grammar, a run for each combination",
    "--cfg job": "print the configuration instead of running it",
    "--config-dir FOLDER": "your own YAML, beside cnnlab's",
    "--hydra-help": "what else Hydra takes",
}


def print_keys(arguments: Sequence[str], folders: list[Path]) -> None:
    """What may be typed beside `arguments`. Raises ConfigError for those that cannot be composed."""
    composed, choices = compose_with_choices(expand_sweep(read_overrides(arguments))[0], folders)
    tree: Any = OmegaConf.to_container(composed, resolve=False)
    if not set(MULTIRUN) & set(arguments):
        del tree["sweep"]
    print(OPENING)
    for flag, text in FLAGS.items():
        print_line(flag, text)
    common = read_comments(CONF / "train.yaml")
    print("\nChosen by name")
    for group in ("experiment", *(key for key, value in tree.items() if isinstance(value, dict) and key in choices)):
        names = ", ".join(sorted(list_choices(group, folders)))
        print_line(f"{group}={write(choices.get(group))}", f"{common.get(f'defaults.{group}', '')}: {names}")
    print("\nThe run")
    for key in (key for key, value in tree.items() if not isinstance(value, dict) and key not in choices):
        print_line(f"{key}={write(tree[key])}", common.get(key, ""))
    for group, keys in tree.items():
        if isinstance(keys, dict) and set(keys) - {"name"}:
            files = list_files(group, choices.get(group), folders)
            own = {key: text for file in files for key, text in read_comments(file).items()}
            print(f"\n{': '.join([group, *map(first_comment, files)])}")
            for key in (key for key in keys if key != "name"):
                text = own.get(key) or common.get(f"{group}.{key}", "")
                print_line(f"{group}.{key}={write(keys[key])}", text)


def list_files(group: str, chosen: str | Sequence[str] | None, folders: Sequence[Path]) -> list[Path]:
    """The YAML of what is chosen in a group."""
    names = [chosen] if isinstance(chosen, str) else chosen or []
    files = [folder / group / f"{name}.yaml" for name in names for folder in folders]
    return [file for file in files if file.is_file()]


def read_comments(file: Path) -> dict[str, str]:
    """What a YAML file says of each of its keys, by path such as "split.valid".

    A comment stands beside its key and may go on in lines of its own, further to the right than the key. Before a group
    `#   key: …` describes a key that its choices may have.
    """
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []  # indentation and key, from the outermost
    described: dict[str, str] = {}  # of the group that follows
    path = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if description := DESCRIPTION.fullmatch(line):
            described[description["key"]] = description["comment"]
        elif key := LINE.fullmatch(line):
            indent = len(key["indent"])
            parents = [(column, name) for column, name in parents if column < indent] + [(indent, key["key"])]
            path = ".".join(name for _, name in parents)
            found[path] = key["comment"] or ""
            found |= {f"{path}.{name}": text for name, text in described.items()}
            described = {}
        elif path and re.match(r" +#", line):
            found[path] += " " + line.strip().removeprefix("#").strip()
    return found


def first_comment(file: Path) -> str:
    """The first that is not for Hydra: what the file is for."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""


def write(value: Any) -> str:
    """A value as it would be typed."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).partition("\n")[0].replace(": ", ":")


def print_line(what: str, text: str) -> None:
    """`what` and its explanation beside, wrapped below itself."""
    width = max(60, min(120, shutil.get_terminal_size().columns))
    if len(what) > COLUMN - 4:
        print(f"  {what}")
        what = ""
    for line in textwrap.wrap(text, width - COLUMN, break_on_hyphens=False) or [""]:
        print(f"  {what:<{COLUMN - 2}}{line}".rstrip())
        what = ""
