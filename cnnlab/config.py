"""The configuration: parsed once, and typed from there on; every check that needs no data.

A tree (nested dicts and lists, as composed by Hydra or read from a run's `config.yaml`) goes in; a
`Config` comes out, or one ConfigError that tells all problems together. `as_yaml` makes a tree of it again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePath
from typing import Annotated, Any, Literal

import yaml

from cnnlab.data import AUGMENTS, CROPS, DATASETS, MIXES
from cnnlab.data.groups import is_pattern
from cnnlab.data.order import Sampling
from cnnlab.data.parts import Division
from cnnlab.data.registry import ForEveryDataset
from cnnlab.device import choose_device
from cnnlab.distributed import num_processes
from cnnlab.durations import Duration, Time
from cnnlab.engine.compute import (
    PLAIN,
    Compile,
    Compute,
    Convolution,
    MemoryFormat,
    Precision,
    Threads,
    explain_missing,
)
from cnnlab.engine.views import Views
from cnnlab.errors import ConfigError
from cnnlab.metrics import COLUMNS, METRICS, ON_REQUEST, VALID_COLUMNS, find_missing
from cnnlab.models import MODELS
from cnnlab.models.registry import ForEveryModel
from cnnlab.optim import AVERAGES, LOSSES, OPTIMIZERS, SCHEDULES
from cnnlab.optim.registry import ForEveryOptimizer, ForEverySchedule
from cnnlab.plugins import import_modules
from cnnlab.registry import Component, Registry
from cnnlab.signature import (
    BelowOne,
    Count,
    NonNegative,
    OneOf,
    Range,
    Whole,
    as_yaml,
    keyword_arguments,
    read_arguments,
    suggest,
)
from cnnlab.threads import num_cores
from cnnlab.trackers import TRACKERS

# What each group of YAML chooses from. An augmentation may be of any of three kinds.
REGISTRIES: dict[str, Registry[Any]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "average": AVERAGES,
}
MAX_THREADS = 256  # that a run may ask for on any machine: a saved one is evaluated on smaller ones too
STAGES: dict[str, Registry[None]] = {"crop": CROPS, "augment": AUGMENTS, "mix": MIXES}


@dataclass(frozen=True)
class Split:
    """Shares taken from the training images where a dataset does not come with the part itself."""

    valid: BelowOne
    test: BelowOne
    seed: Whole
    groups: str | None = None  # a column of the table of labels, or a pattern of ids: what belongs together
    keep_twins: bool = False

    def find_problems(self) -> list[str]:
        problems = []
        if self.valid + self.test >= 1:
            given = f"{self.valid:g} and {self.test:g}"
            problems.append(f"valid, split.test: {given} were given; expected less than 1 together")
        if self.groups is not None and is_pattern(self.groups):
            try:
                re.compile(self.groups)
            except re.error as error:
                problems.append(
                    f"groups: {self.groups!r} was given, which is no regular expression ({error}); expected a column "
                    "of the table of labels, or a pattern such as '(.*)_'"
                )
        return problems


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How to run, as opposed to what: how fast, how long, how often to report.

    A key that came later has a default here as well, for runs that were saved without it.
    """

    device: str
    threads: Threads
    deterministic: bool = True  # the same bits each time, on CUDA too
    precision: Precision
    memory_format: MemoryFormat
    compile: Compile
    eval_batch_size: Count
    log_every: Duration
    checkpoint_every: Duration
    micro_batch_size: Count | None  # images worked through at once; null: a batch, less where memory runs out
    sync_batch_norm: bool  # statistics of the whole batch, where many processes divide it
    select_by: Literal["auto"] | Annotated[str, OneOf(VALID_COLUMNS)]
    stop_by: Literal["auto"] | Annotated[str, OneOf(COLUMNS)]
    patience: Count | None  # epochs
    min_delta: NonNegative
    max_time: Time | None
    overfit: Count | None  # batches
    convolution: Convolution = "auto"
    tta: Views = "none"  # views of each test image that are averaged
    # Beside those that select or stop: see `metrics.py`.
    metrics: list[Annotated[str, OneOf(METRICS)]] = field(default_factory=list)

    def find_problems(self) -> list[str]:
        problems = []
        if self.sync_batch_norm and self.micro_batch_size is not None:
            problems.append(
                "sync_batch_norm, engine.micro_batch_size: both were given; expected one of them "
                "(the statistics of a whole batch need all of its images at once)"
            )
        if self.convolution == "winograd":
            for key, expected in (("precision", "fp32"), ("memory_format", "channels_last"), ("compile", "off")):
                value = getattr(self, key)
                if value not in ("auto", expected):
                    problems.append(
                        f"convolution, engine.{key}: winograd and {value} were given; expected {expected} beside "
                        "winograd, or another convolution"
                    )
        if self.compile in ("graphs", "reduce-overhead") and self.micro_batch_size is not None:
            problems.append(
                f"compile, engine.micro_batch_size: {self.compile} and a size were given; expected one of them "
                "(a recorded graph overwrites the gradients of the micro-batch before)"
            )
        return problems


@dataclass(frozen=True)
class Augmentations:
    """What happens to training images: components by the names that they have in YAML, in their order."""

    crop: Component[None] | None = None
    augmentations: tuple[Component[None], ...] = ()
    mixes: tuple[Component[None], ...] = ()

    def __iter__(self) -> Iterator[Component[None]]:
        return iter([*([self.crop] if self.crop else []), *self.augmentations, *self.mixes])

    def as_yaml(self) -> dict[str, Any]:
        return {component.name: as_yaml(component.arguments) for component in self}


@dataclass(frozen=True)
class Loggers:
    """The trackers that a run tells of itself."""

    components: tuple[Component[None], ...] = ()

    def as_yaml(self) -> dict[str, Any]:
        return {component.name: as_yaml(component.arguments) for component in self.components}


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    model: Component[ForEveryModel]
    dataset: Component[ForEveryDataset]
    augment: Augmentations
    optimizer: Component[ForEveryOptimizer]
    schedule: Component[ForEverySchedule]
    loss: Component[None]
    average: Component[None]
    engine: Engine
    split: Split
    batch_size: Count
    epochs: Annotated[float, Range(above=0, at_most=1e9)]
    steps: Count | None  # these two, where given, stand in for epochs
    examples: Count | None
    seed: Whole
    name: str  # of the folder that collects the runs
    output_dir: str
    imports: list[str]  # the user's own modules, which register models, datasets, …
    sampling: Sampling
    fit_on: Literal["train", "train_valid"]  # train_valid: no image is kept back to select with
    folds: Annotated[int, Range(at_least=2)] | None  # of a cross-validation: one run for each
    fold: Whole | None  # the one of them that this run validates on
    plots: Literal["on", "off"] = "on"  # pictures at the end of a run
    logger: Loggers = Loggers()
    tags: list[str] = field(default_factory=list)  # the user's own, by which runs are found again
    note: str | None = None
    learn_hardest: Annotated[float, Range(above=0, at_most=1)] | None = None  # share of a batch: see engine/hardest.py

    @property
    def num_runs(self) -> int:
        """How many runs it takes: one for each fold of a whole cross-validation."""
        return 1 if self.folds is None or self.fold is not None else self.folds

    @property
    def duration(self) -> Duration:
        """How long to train."""
        if self.steps is not None:
            return Duration(self.steps, "step")
        if self.examples is not None:
            return Duration(self.examples, "example")
        return Duration(self.epochs, "epoch")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics on request: those that are listed, and those that select, stop or steer the rate."""
        return list_metrics(self.engine, self.schedule)

    @property
    def division(self) -> Division:
        """How the images become parts."""
        kept = None if self.engine.overfit is None else self.engine.overfit * self.batch_size
        split = self.split
        return Division(split.valid, split.test, split.seed, self.folds, self.fold, self.fit_on, kept)

    @property
    def compute(self) -> Compute:
        """How to compute, as far as it is given. LBFGS takes all weights as one vector, which contiguous ones are."""
        engine = self.engine
        if engine.convolution == "winograd":  # which the others have to go with
            return replace(PLAIN, threads=engine.threads, convolution="winograd")
        memory_format = engine.memory_format
        if self.optimizer.name == "lbfgs" and memory_format == "auto":
            memory_format = "contiguous"
        return Compute(engine.precision, memory_format, engine.compile, engine.threads, engine.convolution)


# --- Parsing ------------------------------------------------------------------------------------------


def parse(tree: Mapping[str, Any]) -> Config:
    """Check a tree and make it a Config.

    Raises ConfigError telling every problem, each with what was expected or the nearest valid name.
    """
    import_modules(tree.get("imports"))
    fields = keyword_arguments(Config)
    parsers: dict[str, Callable[[str, Any], tuple[Any, list[str]]]] = {
        **{name: registry.parse for name, registry in REGISTRIES.items()},
        "augment": parse_augment,
        "logger": parse_loggers,
        "engine": partial(parse_fields, Engine),
        "split": partial(parse_fields, Split),
    }
    first_look = {name: p.replace(annotation=dict[Any, Any]) if name in parsers else p for name, p in fields.items()}
    values, problems = read_arguments("", tree, first_look)
    for name, parser in parsers.items():
        if name in values:
            values[name], found = parser(name, values[name])
            problems += found
    values = {name: value for name, value in values.items() if name not in parsers or value is not None}
    for check in RELATIONS:
        needed = inspect.signature(check).parameters
        if values.keys() >= needed.keys():
            problems += check(**{name: values[name] for name in needed})
    if problems:
        raise ConfigError(problems)
    return Config(**values)


def parse_fields(kind: type, where: str, given: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """An instance of a dataclass from its YAML, or None and every problem of it."""
    found, problems = read_arguments(where, given, keyword_arguments(kind))
    if problems:
        return None, problems
    value = kind(**found)
    return value, [f"{where}.{problem}" for problem in value.find_problems()]


def list_wanted(where: str, given: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Names with their arguments, without those that null switches off; and problems."""
    wanted = {name: arguments for name, arguments in given.items() if isinstance(arguments, Mapping)}
    problems = [
        f"{where}.{name}: {arguments!r} was given; expected a mapping of arguments, or null"
        for name, arguments in given.items()
        if arguments is not None and name not in wanted
    ]
    return wanted, problems


def parse_augment(where: str, given: Mapping[str, Any]) -> tuple[Augmentations | None, list[str]]:
    """The augmentations from names and their arguments; null switches one off."""
    wanted, problems = list_wanted(where, given)
    found: dict[str, list[Component[None]]] = {kind: [] for kind in STAGES}
    for name, arguments in wanted.items():
        kinds = [kind for kind, registry in STAGES.items() if name in registry]
        if not kinds:
            names = [known for registry in STAGES.values() for known in registry]
            problems.append(f"{where}.{name}: no '{name}'; {suggest(str(name), names)}")
        for kind in kinds:
            component, wrong = STAGES[kind].parse(f"{where}.{name}", {**arguments, "name": name})
            problems += wrong
            found[kind] += [component] if component else []
    crops = found["crop"]
    if len(crops) > 1:
        both = " and ".join(crop.name for crop in crops)
        problems.append(f"{where}: {both} were given; expected one of them: an image is cut out once")
    if problems:
        return None, problems
    return Augmentations(crops[0] if crops else None, tuple(found["augment"]), tuple(found["mix"])), []


def parse_loggers(where: str, given: Mapping[str, Any]) -> tuple[Loggers | None, list[str]]:
    """The trackers from names and their arguments; null switches one off."""
    wanted, problems = list_wanted(where, given)
    components = []
    for name, arguments in wanted.items():
        if name not in TRACKERS:
            problems.append(f"{where}.{name}: no '{name}'; {suggest(str(name), TRACKERS)}")
            continue
        component, wrong = TRACKERS.parse(f"{where}.{name}", {**arguments, "name": name})
        problems += wrong
        components += [component] if component else []
    return (None, problems) if problems else (Loggers(tuple(components)), [])


# --- What no single group can say ---------------------------------------------------------------------


def relate_folders(name: str, output_dir: str) -> list[str]:
    problems = []
    parts = PurePath(name).parts
    if not parts or PurePath(name).is_absolute() or any(part.startswith(".") for part in parts) or not is_plain(name):
        problems.append(
            f"name: {name!r} was given; expected the name of a folder inside output_dir, such as 'lenet' or 'may/lenet'"
        )
    if not output_dir or not is_plain(output_dir):
        problems.append(f"output_dir: {output_dir!r} was given; expected a folder, such as 'outputs'")
    return problems


def is_plain(path: str) -> bool:
    """Whether a path has no characters that control a terminal, or end a name."""
    return path.isprintable() and all(len(part.encode()) < 256 for part in PurePath(path).parts)


def relate_threads(engine: Engine) -> list[str]:
    most = max(MAX_THREADS, 4 * num_cores())
    if not isinstance(engine.threads, int) or engine.threads <= most:
        return []
    return [
        f"engine.threads: {engine.threads} was given; expected at most {most}: this process may use {num_cores()} "
        "cores, and threads beyond them wait for each other"
    ]


def relate_device(engine: Engine) -> list[str]:
    try:
        device = choose_device(engine.device)
    except ConfigError as error:
        return error.problems
    problems = []
    missing = explain_missing(engine.precision, device)
    if missing:
        problems.append(f"engine.precision: {missing}")
    if engine.compile in ("graphs", "reduce-overhead") and device.type != "cuda":
        problems.append(
            f"engine.compile: {engine.compile} was given; expected another: {device.type} has no CUDA graphs"
        )
    elif engine.compile == "graphs" and num_processes() > 1:
        problems.append(
            "engine.compile: graphs was given to many processes; expected another: one of them may fail to record what "
            "the others wait for"
        )
    if engine.convolution == "winograd" and device.type != "cpu":
        problems.append(
            f"engine.convolution: winograd was given; expected auto or direct: {device.type} has its own ways"
        )
    return problems


def relate_optimizer(
    engine: Engine, optimizer: Component[ForEveryOptimizer], model: Component[ForEveryModel]
) -> list[str]:
    problems = []
    late = [key for key in ("unfreeze_after", "freeze_after") if getattr(model.shared, key)]
    if optimizer.name == "lbfgs" and late:
        problems.append(
            f"model.{late[0]}: was given beside optimizer lbfgs, which moves all weights together throughout; expected "
            "another optimizer, or model.freeze alone"
        )
    if optimizer.name == "lbfgs" and engine.precision == "fp16":
        problems.append(
            "engine.precision: fp16 was given; expected another one beside optimizer lbfgs, which compares losses of "
            "one step, while fp16 leaves steps out"
        )
    if optimizer.name == "lbfgs" and engine.convolution == "winograd":
        problems.append(
            "engine.convolution: winograd was given; expected auto or direct beside optimizer lbfgs, whose weights are "
            "contiguous"
        )
    if optimizer.name == "lbfgs" and engine.memory_format == "channels_last":
        problems.append(
            "engine.memory_format: channels_last was given; expected auto or contiguous beside optimizer lbfgs, which "
            "takes all weights as one vector"
        )
    return problems


def list_metrics(engine: Engine, schedule: Component[ForEverySchedule]) -> tuple[str, ...]:
    watched = (engine.select_by, engine.stop_by, schedule.arguments.get("metric"))
    wanted = {*engine.metrics, *(column.partition("_")[2] for column in watched if column in ON_REQUEST)}
    return tuple(name for name in METRICS if name in wanted)


def relate_metrics(engine: Engine, schedule: Component[ForEverySchedule]) -> list[str]:
    return [f"engine.metrics: {problem}" for problem in find_missing(list_metrics(engine, schedule))]


def relate_average(model: Component[ForEveryModel], average: Component[None]) -> list[str]:
    given = [key for key in ("freeze", "freeze_after") if getattr(model.shared, key)]
    if not (given and average.name == "swa"):
        return []
    return [
        f"average: swa was given beside model.{given[0]}; expected ema or none: swa computes the statistics of batch "
        "normalisation anew, which what is frozen keeps"
    ]


def relate_lengths(steps: int | None, examples: int | None) -> list[str]:
    if steps is None or examples is None:
        return []
    return ["steps, examples: both were given; expected one of them (each stands in for epochs)"]


def relate_folds(folds: int | None, fold: int | None, fit_on: str, engine: Engine) -> list[str]:
    problems = []
    if folds is not None and engine.overfit is not None:
        problems.append("folds, engine.overfit: batches that are learned by heart are validated on too; expected one")
    if folds is not None and fit_on == "train_valid":
        problems.append("folds, fit_on: each fold validates on images that fit_on=train_valid trains on; expected one")
    if fold is not None and (folds is None or fold >= folds):
        expected = "null, or folds too" if folds is None else f"null, or a whole number below folds, {folds}"
        problems.append(f"fold: {fold} was given; expected {expected}")
    return problems


# Each is asked about the values that its parameters name, if these are right in themselves.
RELATIONS: tuple[Callable[..., list[str]], ...] = (
    relate_folders,
    relate_threads,
    relate_device,
    relate_optimizer,
    relate_metrics,
    relate_average,
    relate_lengths,
    relate_folds,
)

# --- Beside parsing -----------------------------------------------------------------------------------


def apply_overrides(tree: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A saved tree with `key=value` overrides, values written as in YAML. Raises ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    # OmegaConf passes over a value that is missing ("???").
    wrong = [text for text in overrides if not text.partition("=")[0] or text.partition("=")[2] in ("", "???")]
    if wrong:
        raise ConfigError([f"{text!r} was given; expected key=value" for text in wrong])
    try:
        merged = OmegaConf.merge(OmegaConf.create(dict(tree)), OmegaConf.from_dotlist(overrides))
        return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())  # YAML's messages have several lines
        raise ConfigError(f"overrides {' '.join(overrides)}: {reason}; expected key=value") from error
