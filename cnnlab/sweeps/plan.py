"""What is decided before the first trial of a sweep: composed, checked and written down, so that nothing changes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cnnlab.composition import SWEEP_KEY, compose_tree, list_choices, resolve
from cnnlab.errors import ConfigError
from cnnlab.metrics import ON_REQUEST
from cnnlab.signature import as_yaml
from cnnlab.sweeps.directory import SweepDirectory, Trial
from cnnlab.sweeps.launching import require_launcher, split_launcher
from cnnlab.sweeps.processes import begin_server
from cnnlab.sweeps.proposals import count_combinations, draw_different, import_optuna, list_combinations, list_ends
from cnnlab.sweeps.settings import Settings, parse_settings
from cnnlab.sweeps.space import Axis, is_value, split_overrides


def plan_sweep(overrides: list[str], folders: list[Path]) -> SweepDirectory:
    """Compose and check every configuration, and write all of it down."""
    launcher, overrides = split_launcher(overrides)
    if launcher and len(folders) > 1:
        launcher.append(f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders[1:])}]")
    require_launcher(launcher)
    own = [text for text in overrides if SWEEP_KEY.match(text)]
    settings = parse_settings(OmegaConf.to_container(compose_tree(own, folders)["sweep"], resolve=True))

    def choices(key: str) -> set[str]:
        return list_choices(key, folders)

    fixed, axes = split_overrides(overrides, settings.space.items(), choices)
    require_sound(settings, axes)
    bases = compose_bases(fixed, axes, folders, choices)
    if not launcher:
        begin_server()  # which loads what trials use while this process loads what checks them
    trials = make_trials(settings, bases, propose_all(settings, axes))
    # A search that learns proposes later; that its space has no mistakes is seen at both ends of each axis.
    first = (trials or make_trials(settings, bases, list_ends(axes)))[0]
    require_prunable(settings, first)
    metric, device = find_metric(settings, first), find_device(first)
    num_trials = len(trials) or (settings.trials or 1) * settings.seeds
    workers = choose_workers(settings, device, num_trials, elsewhere=bool(launcher))
    plan = {
        "overrides": overrides,
        "settings": as_yaml(settings),
        "metric": metric,
        "axes": as_yaml(axes),
        "launcher": launcher,
        "workers": workers,
        "threads": share_threads(device, workers),
        "device": device,
        "bases": [{"values": list(values), "tree": tree} for values, tree in bases.items()],
    }
    folder = Path(first.config["output_dir"], "sweeps")
    return SweepDirectory.claim(folder, plan, with_threads(trials, plan["threads"]))


def require_sound(settings: Settings, axes: Sequence[Axis]) -> None:
    """Raises ConfigError for settings that no trial could follow."""
    problems = []
    if settings.searches and not axes:
        problems.append("sweep.trials: nothing varies; expected a key with values, such as optimizer.lr=0.01,0.1")
    most = count_combinations(axes)
    if axes and settings.trials is not None and most is not None and settings.trials > most:
        problems.append(
            f"sweep.trials: {settings.trials} was given; expected at most {most}, which are all combinations: the same "
            "one again would end the same (sweep.seeds=N repeats each with other seeds)"
        )
    if settings.seeds > 1 and any(axis.key == "seed" for axis in axes):
        problems.append("seed, sweep.seeds: both vary the seed; expected one of them")
    if settings.searches not in (None, "random"):
        import_optuna()
    if problems:
        raise ConfigError(problems)


def require_prunable(settings: Settings, trial: Trial) -> None:
    """Raises ConfigError for trials that no pruner could judge."""
    whole = trial.config["folds"] is not None and trial.config["fold"] is None
    if settings.pruner != "none" and whole:
        raise ConfigError(f"sweep.pruner, folds: {settings.pruner} judges single runs; expected none, or fold=0")


def compose_bases(
    fixed: list[str], axes: Sequence[Axis], folders: list[Path], choices: Any
) -> dict[tuple[str, ...], dict[str, Any]]:
    """The tree of each combination of axes that choose YAML, by their values; the other axes are set in them later."""
    chosen = [axis for axis in axes if not is_value(axis.key, choices)]
    problems: list[str] = []
    bases: dict[tuple[str, ...], dict[str, Any]] = {}
    for values in itertools.product(*([f"{axis.key}={choice}" for choice in axis.choices] for axis in chosen)):
        try:
            tree: Any = OmegaConf.to_container(compose_tree([*fixed, *values], folders), resolve=False)
        except ConfigError as error:
            problems += error.problems
            continue
        tree.pop("sweep", None)
        bases[values] = tree
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return bases


def propose_all(settings: Settings, axes: Sequence[Axis], first: int = 0) -> Iterator[list[str]]:
    """The configurations that can be known beforehand: all, but of a search that learns none."""
    if settings.searches is None:
        yield from list_combinations(axes)
    elif settings.searches == "random":
        assert settings.trials is not None
        yield from draw_different(axes, settings.seed, settings.trials)[first:]


def make_trials(
    settings: Settings,
    bases: Mapping[tuple[str, ...], dict[str, Any]],
    configurations: Iterable[list[str]],
    first: int = 0,
) -> list[Trial]:
    """Each configuration on each seed, resolved and checked. Raises ConfigError with all problems."""
    from cnnlab.config import parse

    trials, problems = [], []
    for configuration, values in enumerate(configurations, start=first):
        base = next(key for key in bases if set(key) <= set(values))
        composed = OmegaConf.create(bases[base])
        for text in values:
            if text not in base:
                override = OverridesParser.create().parse_override(text)
                OmegaConf.update(composed, override.key_or_group, override.value(), force_add=True)
        try:
            tree = resolve(composed)
            name = settings.metric.removeprefix("valid_")
            if settings.metric in ON_REQUEST and name not in tree["engine"]["metrics"]:
                tree["engine"]["metrics"] = [*tree["engine"]["metrics"], name]  # which the trials have to measure
            for index in range(settings.seeds):
                seeded = {**tree, "seed": tree["seed"] + index} if index else tree
                checked = as_yaml(parse(seeded))
                number = configuration * settings.seeds + index
                trials.append(Trial(number, configuration, checked["seed"], values, checked))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))  # each once
    return trials


def with_threads(trials: Iterable[Trial], threads: int | None) -> list[Trial]:
    """The trials, each with its share of the CPU's cores, unless that is given."""
    shared = []
    for trial in trials:
        engine = trial.config["engine"]
        if threads is not None and engine["threads"] in (None, "auto"):
            trial = replace(trial, config={**trial.config, "engine": {**engine, "threads": threads}})
        shared.append(trial)
    return shared


def find_metric(settings: Settings, trial: Trial) -> str:
    """What trials are compared by. Raises DataError if the dataset is not there."""
    from cnnlab.config import parse
    from cnnlab.experiment.dataset import build_dataset

    config = parse(trial.config)
    task = build_dataset(config).facts.task
    if settings.metric != "auto":
        return settings.metric
    return task.selects_by if config.engine.select_by == "auto" else config.engine.select_by


def find_device(trial: Trial) -> str:
    from cnnlab.device import choose_device

    return choose_device(trial.config["engine"]["device"]).type


def choose_workers(settings: Settings, device: str, num_trials: int, *, elsewhere: bool = False) -> int:
    """How many trials at a time share a machine: one for each GPU, or each core.

    One that a launcher begins elsewhere is taken to have its machine for itself, unless another number is given.
    """
    if settings.workers != "auto":
        return settings.workers
    if elsewhere:
        return 1
    from cnnlab.threads import num_cores

    if device == "cpu":
        return max(1, min(num_cores(), num_trials))
    return count_gpus() if device == "cuda" else 1


def count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def share_threads(device: str, workers: int) -> int | None:
    """The cores for each trial; None leaves it to torch."""
    from cnnlab.threads import num_cores

    return max(1, num_cores() // workers) if device == "cpu" and workers > 1 else None


def read_axes(plan: Mapping[str, Any]) -> list[Axis]:
    return [Axis(**{**axis, "choices": tuple(axis["choices"])}) for axis in plan["axes"]]


def read_bases(plan: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(base["values"]): base["tree"] for base in plan["bases"]}
