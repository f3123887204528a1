"""Trials carried out by one of Hydra's launchers, such as joblib's, submitit's (Slurm) or Ray's.

A job of the launcher knows the directory of the sweep, the number of a trial, and the folder that paths are relative
to. It runs the trial as a process of its own, as the conductor does on this machine, and leaves its exit code beside
its log: the directory is all that the machines have to share.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from cnnlab.composition import COMPOSING, explain
from cnnlab.errors import ConfigError
from cnnlab.sweeps.directory import SweepDirectory

OF_HYDRA = re.compile(r"[+~]{0,2}hydra[./].*", re.DOTALL)
CHOSEN = re.compile(r"hydra/launcher=.*[a-z].*", re.DOTALL)


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is typed for a launcher, and the rest; nothing and all of it where none is chosen."""
    if not any(CHOSEN.fullmatch(text) for text in overrides):
        return [], list(overrides)
    is_its = [bool(OF_HYDRA.fullmatch(text)) for text in overrides]
    pairs = list(zip(overrides, is_its, strict=True))
    return [text for text, its in pairs if its], [text for text, its in pairs if not its]


def require_launcher(overrides: Sequence[str]) -> None:
    """Raises ConfigError for a launcher that is not installed, or for settings that it has not."""
    if not overrides:
        return
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            hydra.compose(None, [*overrides], return_hydra_config=True)
    except COMPOSING as error:
        name = re.findall(r"hydra/launcher=['\"]?([a-z]+)", " ".join(overrides))[-1]
        told = explain(error).problems[0].splitlines()[0]
        raise ConfigError(
            f"{told}; expected hydra/launcher with one that is installed, and its settings "
            f"(pip install hydra-{name}-launcher may bring it)"
        ) from error


def launch(sweep: SweepDirectory, numbers: Sequence[int], overrides: Sequence[str]) -> None:
    """Carry out trials and return when the launcher does. Raises what the launcher raises."""
    arguments = [
        *("hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null"),
        f"hydra.sweep.dir={quote(sweep.launcher.resolve())}",
        "hydra.sweep.subdir=.",
        *overrides,
        f"+sweep={quote(sweep.path.resolve())}",
        f"+cwd={quote(Path.cwd())}",
        f"+trial={','.join(map(str, numbers))}",
    ]
    typed, sys.argv = sys.argv, ["cnnlab train", "--multirun", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come out as they are
    try:
        # Not a decorator: launchers look the function up by its name.
        hydra.main(version_base="1.3", config_path=None, config_name=None)(run_trial)()
    finally:
        sys.argv = typed


def run_trial(job: DictConfig) -> None:
    """A job, wherever it runs: a trial in a process of its own."""
    sweep = SweepDirectory(job.sweep)
    command = [sys.executable, "-m", "cnnlab.sweeps.trial", job.sweep, str(job.trial)]
    process = subprocess.Popen(command, cwd=job.cwd)
    while process.returncode is None:
        try:
            process.wait()
        except KeyboardInterrupt:  # is the conductor's, who asks each trial once
            continue
    sweep.files.write_text(sweep.exit_code(job.trial), [f"{process.returncode}\n"])


def quote(path: Path) -> str:
    """In Hydra's grammar, where backslashes are doubled before a quotation mark alone."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), str(path)) + "'"
