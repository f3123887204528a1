"""The one door to training: a new run, one that goes on, one that repeats another; single or a cross-validation.

Under torchrun every process calls the same function with the same arguments.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from cnnlab.config import Config
from cnnlab.distributed import by_all, by_main
from cnnlab.engine.compute import Compute
from cnnlab.engine.loop import Judge
from cnnlab.errors import ConfigError, StorageError, abridge
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.normalisation import settle_normalisation
from cnnlab.experiment.training import build_experiment
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.folds import train_folds
from cnnlab.runs.saved import read_saved, trust
from cnnlab.runs.training import train
from cnnlab.signature import as_yaml
from cnnlab.stopping import StopRequest

# What may change when a run goes on: how long and on what, never what is learned or how the best is told.
LENGTHS = ("epochs", "steps", "examples")
FIXED = ("engine.overfit", "engine.select_by", "engine.metrics")


def start(
    config: Config,
    overrides: list[str],
    *,
    repeats: RunDirectory | None = None,
    into: RunDirectory | None = None,
    judge: Judge | None = None,
) -> RunDirectory:
    """A new run in a directory of its own, or one with a run for each fold; `overrides` is what was typed.

    One that `repeats` another computes as that did. A trial of a sweep is made `into` a directory that is named
    already, and its `judge` may end it. There is a directory once everything is known that can be known
    before the first step, the images included.
    """
    with StopRequest() as stop:
        first = config if config.num_runs == 1 else replace(config, fold=0)
        assembly = by_all(lambda: assemble(first))
        settle = partial(settle_normalisation, facts=assembly.dataset.facts)
        config, first = by_all(lambda: (settle(config), settle(first)))
        experiment = by_all(lambda: build_experiment(first, assembly))
        run = by_main(lambda: claim(config, overrides, repeats, into))
        if config.num_runs > 1:
            train_folds(run, config, stop, repeats)
        else:
            train(config, run, experiment, by_main(repeats.read_compute) if repeats else Compute(), stop, judge)
    return run


def claim(
    config: Config, overrides: list[str], repeats: RunDirectory | None, into: RunDirectory | None
) -> RunDirectory:
    """A directory for the run, beside that of one that it repeats, whatever that one's configuration says."""
    if into is not None:
        if not into.make(as_yaml(config), overrides):
            raise StorageError(f"{into}: is there already; expected no run of this trial yet")
        run = into
    else:
        folder = Path(config.output_dir, config.name) if repeats is None else repeats.path.parent
        run = RunDirectory.claim(folder, as_yaml(config), overrides)
    if config.imports:
        trust(run, config.imports)  # its own user has named the modules
    return run


def resume(path: str, overrides: list[str], *, judge: Judge | None = None) -> RunDirectory:
    """Go on with a run from its last whole checkpoint, or from its beginning if it has none yet.

    Of a cross-validation with those folds that are not complete. Raises ConfigError for overrides that would make
    another experiment of it.
    """
    run = RunDirectory.open(path)
    config = by_main(lambda: read_saved(run))
    if config.num_runs > 1:
        if overrides:
            raise ConfigError(
                f"{' '.join(overrides)}: {run} holds the folds of a cross-validation, which go on as they began; "
                "expected no changes"
            )
        with StopRequest() as stop:
            train_folds(run, config, stop)
        return run
    require_resumable(overrides)
    began, config = config, read_saved(run, overrides)
    if config.metrics != began.metrics:
        raise ConfigError(
            f"engine.stop_by: the run has the metrics {', '.join(began.metrics) or 'every run has'}, and would have "
            f"{', '.join(config.metrics) or 'no others'}; expected a column of its {run.metrics.name}"
        )
    with StopRequest() as stop:
        experiment = by_all(lambda: build_experiment(config, assemble(config, trained=run.last.is_file())))
        train(config, run, experiment, by_main(run.read_compute), stop, judge)
    return run


def require_resumable(overrides: list[str]) -> None:
    """Raises ConfigError for what cannot change within a run."""
    keys = {text: text.partition("=")[0] for text in overrides}
    allowed = [text for text, key in keys.items() if key in LENGTHS or key.startswith("engine.") and key not in FIXED]
    foreign = [text for text in overrides if text not in allowed]
    if foreign:
        expected = f"{', '.join(LENGTHS)} and engine.* but for {abridge(FIXED)}"
        raise ConfigError([f"{text}: cannot change within a run; expected {expected}" for text in foreign])
