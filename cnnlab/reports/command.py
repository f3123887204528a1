"""`cnnlab report`: one self-contained HTML file of a run, of a sweep, or of a folder of runs."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from cnnlab.errors import ConfigError
from cnnlab.reports.folder_page import find_runs, write_folder_page
from cnnlab.reports.page import write_page
from cnnlab.reports.run_page import write_run_page
from cnnlab.reports.sweep_page import write_sweep_page
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.output import announce, check_output
from cnnlab.runs.saved import read_saved
from cnnlab.sweeps.directory import SweepDirectory


def report(given: str, overrides: Sequence[str], output: str | None, opens: bool, tags: Sequence[str] = ()) -> Path:
    """Write the page of what lies at a path, of a folder's runs those that have all `tags`; returns the file.

    Raises ConfigError where there is nothing to tell of.
    """
    path = Path(given)
    text = choose_page(path, overrides, tags)
    target = check_output(output) if output is not None else RunDirectory(path).report
    announce(target)
    write_page(target, text)
    if opens:
        webbrowser.open(target.resolve().as_uri())
    return target


def choose_page(path: Path, overrides: Sequence[str], tags: Sequence[str] = ()) -> str:
    """The page of a run, of a sweep, or of the runs below a folder; a cross-validation is the folder of its folds."""
    run = RunDirectory(path)
    if run.config.is_file() and not run.fold(0).path.is_dir():
        if overrides:
            read_saved(run, overrides)  # raises for what cannot be; of the run itself anything may be damaged
        return write_run_page(run, overrides)
    if overrides and path.is_dir():
        raise ConfigError(f"{' '.join(overrides)}: changes how a run is read, and {path} is none; expected no changes")
    if SweepDirectory(path).plan.is_file():
        return write_sweep_page(path)
    if not path.is_dir() or next(find_runs(path), None) is None:
        raise ConfigError(
            f"{path}: no run here, and none below; expected a run directory such as outputs/NAME/DATE_TIME, or a "
            "folder of them such as outputs"
        )
    return write_folder_page(path, tags)
