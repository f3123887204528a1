"""A sweep from its beginning to its end: decided and checked, its trials carried out beside each other, told.

Every trial is a process of its own, forked from one that has loaded torch, so that neither memory nor a crash passes
from one to another. This process only waits and tells; whatever kills it, the trials stop at their next step with a
checkpoint, and `cnnlab sweep resume` goes on from there.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cnnlab.composition import COMPOSING, CONF, MULTIRUN, explain, let_through, list_choices, resolve
from cnnlab.errors import ConfigError, FailedTrials, Interrupted
from cnnlab.signature import as_yaml
from cnnlab.sweeps.answers import describe_best, draw_answers, write_best, write_table
from cnnlab.sweeps.directory import Outcome, SweepDirectory, Trial
from cnnlab.sweeps.proposals import Study, draw, import_optuna, list_combinations
from cnnlab.sweeps.settings import Settings, parse_settings
from cnnlab.sweeps.space import Axis, is_value, split_overrides
from cnnlab.tasks import is_higher_better

TABLE_EVERY = 5.0  # seconds between two writings of trials.csv


# --- Decided before the first trial -------------------------------------------------------------------


def start_sweep(arguments: Sequence[str], folders: Sequence[Path]) -> int:
    """What `cnnlab train -m` does. Raises ConfigError with every problem of every trial, before anything is made."""
    sweep = plan_sweep(read_overrides(arguments), list(folders))
    print(f"sweep directory: {sweep}", flush=True)
    return carry_out(sweep)


def read_overrides(arguments: Sequence[str]) -> list[str]:
    """What is typed, without the options of the command line."""
    before = ["", *arguments]
    return [
        text
        for text, previous in zip(arguments, before, strict=False)
        if text not in MULTIRUN and not text.startswith("-") and previous not in ("--config-dir", "-cd")
    ]


def plan_sweep(overrides: list[str], folders: list[Path]) -> SweepDirectory:
    """Compose and check every configuration, and write all of it down."""
    own = [text for text in overrides if text.lstrip("+").startswith(("sweep.", "sweep="))]
    composed = compose_tree(own, folders)
    tree = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(tree, dict)
    settings = parse_settings(tree["sweep"])

    def choices(key: str) -> set[str]:
        return list_choices(key, folders)

    fixed, axes = split_overrides(overrides, settings.space.items(), choices)
    require_sound(settings, axes)
    bases = compose_bases(fixed, axes, folders, choices)
    found = list(propose_all(settings, axes))
    trials = make_trials(settings, axes, bases, found)
    if not trials and settings.searches:  # of Optuna's search: the first, so that mistakes are told
        make_trials(settings, axes, bases, [draw(axes, settings.seed, 0)])
    first = (trials or make_trials(settings, axes, bases, [draw(axes, settings.seed, 0)]))[0]
    metric, device = find_metric(settings, first), find_device(first)
    num_trials = len(trials) or (settings.trials or 1) * settings.seeds
    workers = choose_workers(settings, device, num_trials)
    plan = {
        "overrides": overrides,
        "settings": as_yaml(asdict(settings)) | {"on_failure": str(settings.on_failure)},
        "metric": metric,
        "axes": [asdict(axis) | {"choices": list(axis.choices)} for axis in axes],
        "workers": workers,
        "threads": share_threads(first, device, workers),
        "device": device,
        "bases": [{"values": list(values), "tree": tree} for values, tree in bases.items()],
    }
    plan["settings"]["max_time"] = str(settings.max_time) if settings.max_time else None
    folder = Path(first.config["output_dir"], "sweeps")
    return SweepDirectory.claim(folder, plan, with_threads(trials, plan["threads"]))


def require_sound(settings: Settings, axes: Sequence[Axis]) -> None:
    """Raises ConfigError for settings that no trial could follow."""
    problems = []
    if settings.searches and not axes:
        problems.append("sweep.trials: nothing varies; expected a key with values, such as optimizer.lr=0.01,0.1")
    if settings.seeds > 1 and any(axis.key == "seed" for axis in axes):
        problems.append("seed, sweep.seeds: both vary the seed; expected one of them")
    if settings.searches not in (None, "random"):
        import_optuna()
    if problems:
        raise ConfigError(problems)


def compose_tree(overrides: Sequence[str], folders: Sequence[Path]) -> Any:
    """What Hydra composes, ${…} not filled in. Raises ConfigError."""
    extra = [f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders[1:])}]"]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("train", [let_through(text, list(folders)) for text in overrides] + extra)
    except COMPOSING as error:
        raise explain(error, overrides, folders) from error


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
        for number in range(first, settings.trials):
            yield draw(axes, settings.seed, number)


def make_trials(
    settings: Settings,
    axes: Sequence[Axis],
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
            for index in range(settings.seeds):
                seeded = {**tree, "seed": tree["seed"] + index} if index else tree
                checked = as_yaml(parse(seeded))
                number = configuration * settings.seeds + index
                trials.append(Trial(number, configuration, checked["seed"], values, checked))
        except ConfigError as error:
            problems += [f"{problem} (with {' '.join(values)})" if values else problem for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return trials


def with_threads(trials: Sequence[Trial], threads: int | None) -> Iterator[Trial]:
    """The trials, each with its share of the processor's cores, unless that is given."""
    for trial in trials:
        if threads is not None and trial.config["engine"]["threads"] is None:
            trial.config["engine"]["threads"] = threads
        yield trial


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


def choose_workers(settings: Settings, device: str, num_trials: int) -> int:
    """How many trials at a time: one for each GPU, or each core."""
    if settings.workers != "auto":
        return settings.workers
    from cnnlab.threads import num_cores

    if device == "cpu":
        return max(1, min(num_cores(), num_trials))
    return count_gpus() if device == "cuda" else 1


def count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def share_threads(trial: Trial, device: str, workers: int) -> int | None:
    """The cores for each trial; None leaves it to torch."""
    from cnnlab.threads import num_cores

    return max(1, num_cores() // workers) if device == "cpu" and workers > 1 else None


# --- Carried out --------------------------------------------------------------------------------------


def resume_sweep(path: str, overrides: Sequence[str]) -> int:
    """Finish what is unfinished; `sweep.trials=80` makes a search longer. Repeats and overwrites nothing."""
    sweep = SweepDirectory.open(path)
    plan = sweep.read_plan()
    with sweep.locked():
        changed = [text.partition("=") for text in overrides]
        known = ("trials", "workers", "on_failure", "max_time")
        wrong = [f"{key}{sign}{value}" for key, sign, value in changed if key.removeprefix("sweep.") not in known]
        if wrong:
            raise ConfigError(
                f"{' '.join(wrong)}: cannot change within a sweep; expected sweep.{', sweep.'.join(known)}"
            )
        given = {key.removeprefix("sweep."): yaml.safe_load(value) for key, _, value in changed}
        settings = parse_settings({**plan["settings"], **given})
        trials = sweep.read_trials()
        if settings.trials is not None and settings.trials * settings.seeds < len(trials):
            raise ConfigError(f"sweep.trials: {settings.trials} was given; the sweep has {len(trials)} trials already")
        if settings.searches == "random":
            axes, bases = read_axes(plan), read_bases(plan)
            first = len(trials) // settings.seeds
            more = make_trials(settings, axes, bases, propose_all(settings, axes, first), first)
            sweep.add_trials(with_threads(more[len(trials) - first * settings.seeds :], plan["threads"]))
        if given:
            plan["settings"] |= given
            plan["workers"] = plan["workers"] if settings.workers == "auto" else settings.workers
            sweep.write_plan(plan)
        sweep.stop.unlink(missing_ok=True)
    return carry_out(sweep)


def read_axes(plan: Mapping[str, Any]) -> list[Axis]:
    return [Axis(**{**axis, "choices": tuple(axis["choices"])}) for axis in plan["axes"]]


def read_bases(plan: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(base["values"]): base["tree"] for base in plan["bases"]}


def carry_out(sweep: SweepDirectory) -> int:
    """Carry out every trial that has not ended; returns 0. Raises FailedTrials, or Interrupted."""
    with sweep.locked():
        return Conductor(sweep).conduct()


class Conductor:
    """Begins trials where there is room, notices how they end, and tells."""

    def __init__(self, sweep: SweepDirectory):
        self.sweep, self.plan = sweep, sweep.read_plan()
        self.settings = parse_settings(self.plan["settings"])
        self.metric: str = self.plan["metric"]
        self.trials = sweep.read_trials()
        told = sweep.read_outcomes()
        self.outcomes: dict[int, Outcome] = {
            trial.number: sweep.find_outcome(trial, self.metric, told) for trial in self.trials
        }
        self.axes = read_axes(self.plan)
        learns = self.settings.searches not in (None, "random")
        self.study = Study(sweep, self.settings, self.axes, self.metric) if learns else None
        self.begun = time.monotonic()
        self.signum: int | None = None
        self.stops: str | None = None  # why no other trial is begun
        self.attempts: dict[int, int] = {}
        self.running: dict[int, BaseProcess] = {}
        self.slots: dict[int, int] = {}
        self.num_ended, self.written = 0, 0.0

    def conduct(self) -> int:
        self.sweep.log(0).parent.mkdir(exist_ok=True)
        self.tell_study()
        with self.listening():
            while True:
                self.look_for_reasons_to_stop()
                while self.stops is None and len(self.running) < self.plan["workers"]:
                    trial = self.choose_next()
                    if trial is None:
                        break
                    self.begin(trial)
                if not self.running:
                    break
                connection.wait([process.sentinel for process in self.running.values()], timeout=0.5)
                for number, process in list(self.running.items()):
                    if not process.is_alive():
                        process.join()
                        self.end(number, process.exitcode or 0)
        return self.finish()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM are noted, and passed on to the trials as one request to stop."""

        def note(signum: int, frame: FrameType | None) -> None:
            self.signum = signum

        previous = {signum: signal.signal(signum, note) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def look_for_reasons_to_stop(self) -> None:
        if self.stops is not None:
            return
        limit = self.settings.max_time
        if self.signum is not None:
            self.stops = f"stopped by {signal.Signals(self.signum).name}"
        elif self.sweep.stop.exists():
            self.stops = "stopped by cnnlab sweep stop"
        elif limit is not None and time.monotonic() - self.begun >= limit.seconds:
            self.stops = f"sweep.max_time is over after {limit}"
        else:
            return
        for process in self.running.values():
            process.terminate()

    def choose_next(self) -> Trial | None:
        """The next trial that has not ended, a search's next proposal, or None."""
        for trial in self.trials:
            if trial.number in self.running or self.outcomes[trial.number].has_ended or trial.number in self.attempts:
                continue
            if self.has_been_pruned(trial):
                reason = "its configuration was pruned on another seed"
                self.sweep.add_outcome(trial.number, "pruned", reason)
                self.outcomes[trial.number] = Outcome("pruned", reason=reason)
                continue
            return trial
        if self.study is None or self.settings.trials is None:
            return None
        configuration = len(self.trials) // self.settings.seeds
        if configuration >= self.settings.trials:
            return None
        values = self.study.propose(configuration)
        more = make_trials(self.settings, self.axes, read_bases(self.plan), [values], configuration)
        self.sweep.add_trials(with_threads(more, self.plan["threads"]))
        self.trials += more
        self.outcomes |= {trial.number: Outcome("waiting") for trial in more}
        return more[0]

    def has_been_pruned(self, trial: Trial) -> bool:
        """Whether a trial that has not begun is of a configuration that ended early on another seed."""
        begun = self.outcomes[trial.number].status != "waiting"
        return not begun and any(self.outcomes[other.number].status == "pruned" for other in self.siblings(trial))

    def siblings(self, trial: Trial) -> list[Trial]:
        return [other for other in self.trials if other.configuration == trial.configuration]

    def begin(self, trial: Trial) -> None:
        slot = next(slot for slot in itertools.count() if slot not in self.slots.values())
        gpus = count_gpus() if self.plan["device"] == "cuda" else 0
        is_free = gpus > 0 and trial.config["engine"]["device"] in ("auto", "cuda")
        context = get_context("forkserver")
        context.set_forkserver_preload(["cnnlab.sweeps.trial"])
        process = context.Process(
            target=run_trial, args=(str(self.sweep), trial.number, slot % gpus if is_free else None)
        )
        process.start()
        self.running[trial.number], self.slots[trial.number] = process, slot
        self.attempts[trial.number] = self.attempts.get(trial.number, 0) + 1

    def end(self, number: int, code: int) -> None:
        """Note how a trial has ended, and tell it in a line."""
        del self.running[number], self.slots[number]
        trial = self.trials[number]
        was_asked = self.stops is not None and (code in (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT))
        if code != 0 and not was_asked:
            if self.attempts[number] <= self.settings.on_failure.num_retries:
                self.say(f"trial {number} {describe_code(code)}, and is tried again")
                self.begin(trial)
                return
            reason = describe_code(code)
            if code > 0:
                reason = read_end(self.sweep.log(number)) or reason
            self.sweep.add_outcome(number, "failed" if code > 0 else "killed", reason)
            if self.settings.on_failure.stops:
                self.stops = f"trial {number} failed, and sweep.on_failure is stop"
                for process in self.running.values():
                    process.terminate()
        self.outcomes[number] = self.sweep.find_outcome(trial, self.metric, self.sweep.read_outcomes())
        self.num_ended += 1
        self.tell_study()
        self.say(self.describe(trial))
        if time.monotonic() - self.written > TABLE_EVERY:
            write_table(self.sweep, self.trials, self.outcomes, self.metric)
            self.written = time.monotonic()

    def tell_study(self) -> None:
        """The mean of each configuration whose seeds are through."""
        if self.study is None:
            return
        for configuration, group in itertools.groupby(self.trials, key=lambda trial: trial.configuration):
            outcomes = [self.outcomes[trial.number] for trial in group]
            if all(outcome.has_ended or outcome.status == "killed" for outcome in outcomes):
                scores = [outcome.score for outcome in outcomes if outcome.score is not None]
                failed = any(outcome.status in ("failed", "killed") for outcome in outcomes)
                self.study.learn(configuration, None if failed or not scores else sum(scores) / len(scores))

    # --- Told -------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        print(text, flush=True)

    def describe(self, trial: Trial) -> str:
        outcome = self.outcomes[trial.number]
        label = " ".join(trial.values) + (f" seed={trial.seed}" if self.settings.seeds > 1 else "")
        parts = [
            f"trial {trial.number} ({label}) {outcome.status}"
            if label.strip()
            else f"trial {trial.number} {outcome.status}"
        ]
        if outcome.reason:
            parts[0] += f": {outcome.reason}"
        if outcome.score is not None:
            parts.append(f"{self.metric} {outcome.score:.4f}")
        scores = {n: o.score for n, o in self.outcomes.items() if o.score is not None and o.status != "failed"}
        if scores:
            pick = max if is_higher_better(self.metric) else min
            best = pick(scores, key=lambda number: scores[number])
            parts.append(f"best {scores[best]:.4f} (trial {best})")
        left = self.count_left()
        if left:
            seconds = (time.monotonic() - self.begun) / self.num_ended * left
            parts.append(f"{left} left, about {describe_seconds(seconds)}")
        return " | ".join(parts)

    def count_left(self) -> int:
        total = max(len(self.trials), (self.settings.trials or 0) * self.settings.seeds)
        return total - sum(outcome.has_ended or outcome.status == "killed" for outcome in self.outcomes.values())

    def finish(self) -> int:
        """The table, the best configuration, pictures, and the last lines. Raises FailedTrials or Interrupted."""
        write_table(self.sweep, self.trials, self.outcomes, self.metric)
        self.say(describe_best(self.sweep, self.trials, self.outcomes, self.metric))
        write_best(self.sweep, self.trials, self.outcomes, self.metric, self.plan["overrides"])
        draw_answers(self.sweep, self.trials, self.outcomes, self.metric, self.axes)
        self.say(f"sweep directory: {self.sweep}")
        left = self.count_left()
        if self.stops is not None and left:
            self.say(f"{self.stops}; {left} trials are left, go on with: cnnlab sweep resume {self.sweep}")
        if self.signum is not None:
            raise Interrupted(self.signum)
        failed = [number for number, outcome in self.outcomes.items() if outcome.status in ("failed", "killed")]
        if failed:
            reasons = "\n".join(f"  trial {number}: {self.outcomes[number].reason}" for number in failed[:10])
            raise FailedTrials(f"{len(failed)} of {len(self.trials)} trials failed:\n{reasons}")
        return 0


def run_trial(path: str, number: int, gpu: int | None) -> None:
    from cnnlab.sweeps.trial import begin_process  # which loads torch: in the trial's process, not in this one

    begin_process(path, number, gpu)


def describe_code(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def describe_seconds(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def read_end(path: Path) -> str | None:
    """The last line that says something."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    said = [line for line in lines if line and not line.startswith("run directory:")]
    return said[-1].removeprefix("cnnlab: ") if said else None
