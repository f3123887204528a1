"""The single Hydra entry point: `cnnlab train …` and `python -m cnnlab.train …` are the same."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cnnlab.composition import (
    COMPOSING,
    CONF,
    MULTIRUN,
    check_overrides,
    explain,
    find_config_dirs,
    let_through,
    resolve,
)
from cnnlab.distributed import run_together, share
from cnnlab.errors import CnnlabError, Interrupted
from cnnlab.keys import print_keys
from cnnlab.recipes import leave_out_unchosen
from cnnlab.streams import lasting_output, open_closed_streams

# Sweeps of another sweeper than ours, and what only prints.
ELSEWHERE = re.compile(r"hydra/sweeper=.*|--cfg(=.*)?|-c|--info(=.*)?|-i|--help|-h|--hydra-help", re.DOTALL)

_has_composed = False  # whether a job of this process has begun: what it raises is no matter of composing


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def run_job(composed: DictConfig) -> None:
    """One composed configuration: checked, then trained in a new run directory."""
    global _has_composed
    _has_composed = True
    from cnnlab.config import parse
    from cnnlab.runs.start import start

    settings = HydraConfig.get()
    given: Any = OmegaConf.to_container(settings.overrides, resolve=False)  # ${…} is told below
    typed: list[str] = given["task"]
    searched = [text for text in given["hydra"] if text.startswith("hydra.searchpath=")]
    try:
        tree = resolve(leave_out_unchosen(composed, settings.runtime.choices, [*searched, *typed]))
        config = parse(tree)
        overrides = [text.removeprefix("++") for text in typed]
        share((tree, overrides))
        with lasting_output():
            start(config, overrides)
    except CnnlabError as error:
        report(error)
        if settings.mode == RunMode.RUN:
            sys.exit(error.exit_code)  # which Hydra, unlike an Exception, does not report once more
        raise  # the other runs of a sweep go on; Hydra raises this again after the last one


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit code: 0, or that of the error (see `errors.py`)."""
    open_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_together(lambda: compose_and_train(arguments), follow)


def follow() -> None:
    """What the processes beside the main one do: train what it has composed and checked."""
    from cnnlab.config import parse
    from cnnlab.runs.start import start

    job: tuple[dict[str, Any], list[str]] = share(({}, []))
    start(parse(job[0]), job[1])


def compose_and_train(arguments: list[str]) -> int:
    """What the main process does, or the only one."""
    global _has_composed
    _has_composed = False
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come out as they are, not as Hydra's printout
    arguments = [text for text in arguments if text != "experiment=null"]  # which is the default
    folders = [CONF, *find_config_dirs(arguments)]
    is_sweep = bool(set(MULTIRUN) & set(arguments)) and not any(ELSEWHERE.fullmatch(text) for text in arguments)
    try:
        if {"--help", "-h"} & set(arguments):
            print_keys(arguments, folders)
            return 0
        check_overrides(arguments, folders, is_planned=is_sweep)
        if is_sweep:
            from cnnlab.sweeps.conductor import start_sweep

            with lasting_output():
                return start_sweep(arguments, folders)
    except (CnnlabError, Interrupted) as error:
        return report(error)
    except BrokenPipeError:  # `cnnlab train --help | head`
        sys.stderr.close()
        return 0
    sys.argv = ["cnnlab train", *(let_through(text, folders) for text in arguments)]
    try:
        run_job()
    except Interrupted as error:
        return report(error)
    except CnnlabError as error:
        return error.exit_code
    except COMPOSING as error:
        if _has_composed:
            raise
        return report(explain(error, arguments, folders))
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def report(error: CnnlabError | Interrupted) -> int:
    print(f"cnnlab: {error}", file=sys.stderr, flush=True)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
