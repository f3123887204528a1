"""What many tests start from: a small configuration, a folder of its own, the commands as a user types them."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch is imported: two test processes on two cores would otherwise fight over four threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hydra
import pytest
import torch

from cnnlab.composition import CONF, resolve
from cnnlab.config import Config, parse
from cnnlab.registry import Component, Registry
from cnnlab.runs import training

torch.set_num_threads(1)

# 1,797 digits of 12×12, the smallest that mnist_cnn takes: an epoch of 21 steps in a tenth of a second.
SMALL = ["dataset.image_size=12", "epochs=2", "engine.device=cpu"]


def compose_tree(*overrides: str) -> dict:
    """A resolved tree, as `cnnlab train OVERRIDES` composes it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("train", list(overrides))
    return resolve(composed)


def choose(registry: Registry[Any], name: str, **arguments: Any) -> Component[Any]:
    """What YAML with these keys chooses."""
    component, problems = registry.parse(registry.group, {"name": name, **arguments})
    assert component is not None, problems
    return component


def build_from(registry: Registry[Any], given: dict[str, Any], **supplied: Any) -> Any:
    """What is built of such YAML."""
    name, arguments = given["name"], {key: value for key, value in given.items() if key != "name"}
    return choose(registry, name, **arguments).build(**supplied)


def small_config(folder: Path, *overrides: str) -> Config:
    return parse(compose_tree(*SMALL, f"output_dir={folder}", *overrides))


@pytest.fixture
def cnnlab(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `cnnlab ARGUMENTS` in a process and an empty folder of its own."""

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cnnlab.cli", *arguments]
        path = os.pathsep.join([str(CONF.parent), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path, **environment}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=180)

    return run


def only_run(folder: Path) -> Path:
    """The one run directory under `folder`."""
    (found,) = folder.glob("*/*/config.yaml")
    return found.parent


def wait_for_file(process: subprocess.Popen[str], folder: Path, pattern: str, seconds: float = 120) -> None:
    """Until a file of that pattern is there, that `process` is about to write.

    What is made aside is hidden and gets its name when it is whole. `Path.glob` looks into hidden folders too, and
    raises if one is renamed under its eyes (Python 3.12 and earlier); `glob.glob` does neither.
    """
    deadline = time.monotonic() + seconds
    while not glob.glob(pattern, root_dir=folder):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"no {pattern} in {folder}; the process said {process.communicate()}")
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user's runs are remembered by, and what was measured for them, is not the tester's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def pictures() -> None:
    """Asked for by tests that look at the pictures a run draws at its end."""


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' runs draw none: that would take twice as long as the rest of a small run."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(training, "draw_pictures", lambda *arguments: None)
