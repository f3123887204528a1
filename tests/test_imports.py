"""The arrows of the house, read from the imports, and what may not be imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cnnlab

PACKAGE = Path(cnnlab.__file__).parent
BASE = {
    "errors", "durations", "signature", "prefixes", "registry", "distributed", "seeds", "threads", "device", "stopping",
    "tasks", "metrics", "modes", "progress", "atomic", "streams", "graphs", "winograd",
}  # fmt: skip
BUILT = BASE | {"models", "data", "optim", "engine", "trackers", "plugins", "config"}
MAY_IMPORT = {
    "errors": set(),
    "atomic": set(),
    "streams": set(),
    "graphs": set(),
    "winograd": set(),
    "durations": set(),
    "metrics": {"errors"},
    "modes": set(),
    "progress": set(),
    "tasks": {"metrics"},
    "seeds": set(),
    "threads": set(),
    "signature": {"errors"},
    "prefixes": {"errors", "signature"},
    "registry": {"errors", "signature"},
    "distributed": {"errors"},
    "stopping": {"errors", "distributed"},
    "device": {"errors", "distributed", "threads"},
    "plugins": {"errors"},
    "recipes": {"distributed"},
    "models": BASE,
    "data": BASE,
    "optim": BASE,
    "engine": BASE,
    "trackers": {"registry"},
    "config": BUILT,
    "experiment": BUILT,
    "runs": BUILT | {"experiment"},
    "reports": BUILT | {"composition", "experiment", "runs", "sweeps"},
    "composition": BASE | {"config", "recipes"},
    "sweeps": BUILT | {"composition", "experiment", "runs"},
    "keys": {"composition"},
    "train": BUILT | {"composition", "keys", "recipes", "runs", "sweeps"},
    "find_lr": BUILT | {"experiment", "runs", "composition"},
    "prepare": BUILT | {"experiment", "composition"},
    "submit_check": BUILT | {"experiment", "runs", "composition"},
    "bench": BASE | {"engine"},
    "listing": BUILT | {"composition", "keys"},
    "inspection": BUILT | {"experiment", "runs", "composition"},
    "lessons": {"errors", "signature"},
    "cli": {"errors", "signature", "distributed", "streams", "commands", "train", "lessons", "runs"},
    "commands": {
        "errors",
        "signature",
        "distributed",
        "streams",
        "composition",
        "sweeps",
        "prepare",
        "submit_check",
        "find_lr",
        "bench",
        "listing",
        "inspection",
        "runs",
        "reports",
    },  # fmt: skip
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "cnnlab" else [f"cnnlab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("cnnlab.")}
    return {name for name in found if not name.startswith("__")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    if room(path) == "__init__":
        assert imported_rooms(path) == set()
        return
    assert imported_rooms(path) - {room(path)} <= MAY_IMPORT[room(path)]


def loaded_after(code: str) -> set[str]:
    report = f"import atexit, sys\natexit.register(lambda: print('\\n'.join(sys.modules)))\n{code}"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_loads_nothing_heavy():
    code = "from cnnlab.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    heavy = {"torch", "hydra", "omegaconf", "numpy", "torchvision", "matplotlib", "yaml", "tqdm"}
    assert not heavy & loaded_after(code)


def test_help_of_train_loads_no_torch():
    loaded = loaded_after("import os\nfrom cnnlab.cli import main\nsys.stdout = open(os.devnull, 'w')\n"
                          "main(['train', '--help'])\nsys.stdout = sys.__stdout__")  # fmt: skip
    assert "cnnlab.keys" in loaded
    assert not {"torch", "numpy", "torchvision", "matplotlib"} & loaded


def test_training_loads_no_compiler_no_torchvision_no_matplotlib_before_its_second_step(tmp_path):
    code = f"""
import sys
from cnnlab.engine import step
seed_step = step.seed_step
def look(*arguments):
    if arguments[-1] == 1:  # the number of the step
        raise SystemExit
    seed_step(*arguments)
step.seed_step = look
from cnnlab.runs import training
training.draw_pictures = lambda *arguments: None  # at the end of a run matplotlib may come
from cnnlab.cli import main
main(["train", "output_dir={tmp_path}"])
"""
    loaded = loaded_after(code)
    assert "cnnlab.engine.step" in loaded
    assert {"torchvision", "matplotlib", "torch._dynamo"} & loaded == set()
