"""The wheel: built, installed elsewhere, run in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlab.composition import CONF
from cnnlab.runs.directory import RunDirectory
from tests.conftest import SMALL, only_run


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CONF.parent)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


def run(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)


def test_conf_and_the_digits_travel_inside(installed, tmp_path):
    assert (installed / "cnnlab" / "conf" / "train.yaml").is_file()
    done = run(installed, tmp_path, sys.executable, "-m", "cnnlab.train", *SMALL)
    trained = RunDirectory(only_run(tmp_path / "outputs"))
    assert trained.read_json(trained.summary)["status"] == "completed", done.stderr
    assert trained.read_json(trained.environment)["git_commit"] is None


def test_the_command_is_installed(installed, tmp_path):
    listed = run(installed, tmp_path, sys.executable, str(installed / "bin" / "cnnlab"), "list", "experiments")
    assert "mnist_cnn" in listed.stdout
