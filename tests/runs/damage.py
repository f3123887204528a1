"""What can happen to the files of a run directory: torn, emptied, swapped, of another run, of another kind.

Each damage is a function of a directory that spoils it, by a name that says how. `all_damages` is the whole list;
the suite takes a sample of it, `make test-all` all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from cnnlab.engine.checkpoint import load_checkpoint, save_checkpoint

Damage = Callable[[Path], None]

TEXTS = ("config.yaml", "summary.json", "dataset.json", "environment.json", "overrides.yaml", "metrics.csv")
CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/best.pt", "checkpoints/previous.pt")


def all_damages(other: Path) -> dict[str, Damage]:
    """`other` is a run of another network whose files may come in the place of a run's own."""
    damages: dict[str, Damage] = {}
    for name in (*TEXTS, *CHECKPOINTS):
        damages[f"{name} missing"] = partial(remove, name)
        damages[f"{name} empty"] = partial(write, name, b"")
        damages[f"{name} of zeros"] = partial(overwrite, name, 0)
        damages[f"{name} of noise"] = partial(noise, name)
        damages[f"{name} a folder"] = partial(make_folder, name)
        damages[f"{name} of the other run"] = partial(copy, other / name, name)
        for share in (0.2, 0.5, 0.9, 0.99):
            damages[f"{name} cut at {share:.0%}"] = partial(cut, name, share)
    for name in ("config.yaml", "summary.json", "dataset.json"):
        for kind, text in {"list": "[1, 2]", "number": "3", "string": '"x"', "null": "null", "empty": "{}"}.items():
            damages[f"{name} a {kind}"] = partial(write, name, text.encode())
        damages[f"{name} without one key"] = partial(change_text, name, lambda tree: tree.pop(next(iter(tree))))
        damages[f"{name} with values of other types"] = partial(change_text, name, exchange_types)
    for name in CHECKPOINTS:
        for part in ("model", "optimizer", "state", "average"):
            damages[f"{name} without {part}"] = partial(change_checkpoint, name, part, None)
            damages[f"{name} with a list as {part}"] = partial(change_checkpoint, name, part, [1, 2])
            damages[f"{name} with nothing in {part}"] = partial(change_checkpoint, name, part, {})
        damages[f"{name} with NaN"] = partial(change_weights, name, lambda value: value.fill_(float("nan")))
        damages[f"{name} with other shapes"] = partial(change_weights, name, lambda value: value.unsqueeze(0))
        damages[f"{name} with numbers as weights"] = partial(change_weights, name, lambda value: 1.0)
        damages[f"{name} a bare list"] = partial(save_bare, name, [1, 2, 3])
        damages[f"{name} a bare tensor"] = partial(save_bare, name, torch.zeros(3))
        damages[f"{name} of a later format"] = partial(save_bare, name, {"format": 99, "model": {}})
    damages["best.pt in the place of last.pt"] = partial(copy_own, CHECKPOINTS[1], CHECKPOINTS[0])
    damages["last.pt in the place of best.pt"] = partial(copy_own, CHECKPOINTS[0], CHECKPOINTS[1])
    damages["no checkpoints"] = lambda run: [remove(name, run) for name in CHECKPOINTS]
    return damages


def remove(name: str, run: Path) -> None:
    (run / name).unlink(missing_ok=True)


def write(name: str, content: bytes, run: Path) -> None:
    (run / name).write_bytes(content)


def overwrite(name: str, value: int, run: Path) -> None:
    (run / name).write_bytes(bytes([value]) * (run / name).stat().st_size)


def noise(name: str, run: Path) -> None:
    (run / name).write_bytes(random.Random(0).randbytes(2000))


def cut(name: str, share: float, run: Path) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: int(len(content) * share)])


def make_folder(name: str, run: Path) -> None:
    (run / name).unlink()
    (run / name).mkdir()


def copy(source: Path, name: str, run: Path) -> None:
    (run / name).write_bytes(source.read_bytes())


def copy_own(source: str, name: str, run: Path) -> None:
    (run / name).write_bytes((run / source).read_bytes())


def change_text(name: str, change: Callable[[Any], Any], run: Path) -> None:
    """Read as YAML, which JSON is as well."""
    tree = yaml.safe_load((run / name).read_text())
    change(tree)
    (run / name).write_text(json.dumps(tree) if name.endswith(".json") else yaml.safe_dump(tree))


def exchange_types(tree: dict) -> None:
    for key, value in list(tree.items())[:4]:
        tree[key] = [value] if not isinstance(value, list) else "text"


def change_checkpoint(name: str, part: str, value: Any, run: Path) -> None:
    contents = load_checkpoint(run / name)
    if value is None:
        contents.pop(part, None)
    else:
        contents[part] = value
    save_checkpoint(run / name, contents)


def change_weights(name: str, change: Callable[[torch.Tensor], Any], run: Path) -> None:
    contents = load_checkpoint(run / name)
    contents["model"] = {
        key: change(value) if value.is_floating_point() else value for key, value in contents["model"].items()
    }
    save_checkpoint(run / name, contents)


def save_bare(name: str, contents: Any, run: Path) -> None:
    torch.save(contents, run / name)
