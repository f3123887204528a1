"""The configuration: dataclasses for the fixed keys, and every check that needs no data.

A tree (nested dicts and lists, as composed by Hydra or read from a run's `config.yaml`) goes in; a
`Config` comes out, or one ConfigError that tells all problems together.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from cnnlab.engine.durations import parse_duration, parse_time
from cnnlab.engine.precision import explain_missing
from cnnlab.errors import ConfigError
from cnnlab.registry import Registry
from cnnlab.runtime import choose_device
from cnnlab.signature import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Range,
    Whole,
    check_arguments,
    keyword_arguments,
    suggest,
)

Group = dict[str, Any]  # a mapping with `name` and that builder's arguments
GROUPS = ("model", "dataset", "augment", "optimizer", "schedule", "loss", "average", "engine", "split")


@dataclass(frozen=True)
class Split:
    """Shares taken from the training images where a dataset does not come with the part itself."""

    valid: Fraction
    test: Fraction
    seed: Whole


@dataclass(frozen=True)
class Engine:
    """How to run, as opposed to what: how fast, how long, how often to look."""

    device: str
    threads: Count | None  # null: torch's choice
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"]
    memory_format: Literal["auto", "channels_last", "contiguous"]
    compile: Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]
    eval_batch_size: Count
    log_every: str  # durations: "50 steps", "1 epoch", "10000 examples"
    checkpoint_every: str
    micro_batch_size: Count | None  # images worked through at once; null: a batch, less where memory runs out
    sync_batch_norm: bool  # statistics of the whole batch, where many processes divide it
    select_by: Literal["auto", "valid_accuracy", "valid_loss", "valid_log_loss", "valid_mae"]
    stop_by: str  # a column of metrics.csv, or "auto"
    patience: Count | None  # epochs
    min_delta: NonNegative
    max_time: str | None  # "30m"
    overfit: Count | None  # batches


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    model: Group
    dataset: Group
    augment: Group  # name of an augmentation or a mix → its arguments, in order; null switches one off
    optimizer: Group
    schedule: Group
    loss: Group
    average: Group
    engine: Engine
    split: Split
    batch_size: Count
    epochs: Positive
    steps: Count | None  # these two, where given, stand in for epochs
    examples: Count | None
    seed: Whole
    name: str  # of the folder that collects the runs
    output_dir: str
    imports: list[str]
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    fit_on: Literal["train", "train_valid"] = "train"  # train_valid: no image is kept back to select with
    folds: Annotated[int, Range(at_least=2)] | None = None  # of a cross-validation: one run for each
    fold: Whole | None = None  # the one of them that this run validates on

    @property
    def num_runs(self) -> int:
        """How many runs it takes: one for each fold of a whole cross-validation."""
        return 1 if self.folds is None or self.fold is not None else self.folds

    @property
    def duration(self) -> tuple[float, str]:
        """How long to train: an amount and its unit."""
        if self.steps is not None:
            return self.steps, "step"
        if self.examples is not None:
            return self.examples, "example"
        return self.epochs, "epoch"


def parse(tree: Mapping[str, Any], registries: Mapping[str, Registry]) -> Config:
    """Check a tree and make it a Config. `registries` has one entry a group of builders, and "model.init".

    Raises ConfigError telling every problem, each with what was expected or the nearest valid name.
    """
    import_modules(tree.get("imports"))
    if isinstance(tree.get("engine"), Mapping) and tree["engine"].get("compile") is False:
        tree = {**tree, "engine": {**tree["engine"], "compile": "off"}}  # what YAML makes of a bare off
    problems = check_arguments("", tree, keyword_arguments(Config) | _untyped_groups())
    for group, kind in (("engine", Engine), ("split", Split)):
        if isinstance(tree.get(group), Mapping):
            problems += check_arguments(group, tree[group], keyword_arguments(kind))
    for group in ("dataset", "optimizer", "schedule", "loss", "average"):
        if group in tree:
            problems += registries[group].check(group, tree[group])
    if "model" in tree:
        problems += _check_model(tree["model"], registries)
    if isinstance(tree.get("augment"), Mapping):
        stages = [registries["crop"], registries["augment"], registries["mix"]]
        problems += _check_augment(tree["augment"], stages)
    problems += _check_relations(tree)
    if problems:
        raise ConfigError(problems)
    typed = {"engine": Engine(**tree["engine"]), "split": Split(**tree["split"])}
    return Config(**{**tree, **typed})


def _untyped_groups() -> dict[str, Any]:
    """The groups as plain mappings at the first look; each has a check of its own behind it."""
    parameters = keyword_arguments(Config)
    return {name: parameters[name].replace(annotation=dict) for name in GROUPS}


def _check_model(given: Any, registries: Mapping[str, Registry]) -> list[str]:
    if not isinstance(given, Mapping):
        return registries["model"].check("model", given)
    problems = registries["model"].check("model", {key: v for key, v in given.items() if key != "init"})
    init = given.get("init")
    if init is not None:
        problems += registries["model.init"].check("model.init", {"name": init})
        if given.get("weights") is not None:
            problems.append(
                "model.init, model.weights: both were given; expected one of them (init overwrites weights)"
            )
    return problems + _check_freezing(given)


def _check_freezing(model: Mapping[str, Any]) -> list[str]:
    problems = []
    views, unfreeze_after = model.get("feature_views"), model.get("unfreeze_after")
    if unfreeze_after is not None and not model.get("freeze"):
        problems.append(f"model.unfreeze_after: {unfreeze_after} was given; expected null where model.freeze is []")
    if isinstance(views, int) and views > 0 and (model.get("freeze") != "backbone" or unfreeze_after is not None):
        problems.append(
            f"model.feature_views: {views} was given; features can be kept of a backbone that stays as it is: "
            "expected model.freeze=backbone and model.unfreeze_after=null, or feature_views auto or 0"
        )
    return problems


def _check_augment(given: Mapping[str, Any], stages: list[Registry]) -> list[str]:
    problems = []
    for name, arguments in given.items():
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, Mapping):
            problems.append(f"augment.{name}: {arguments!r} was given; expected a mapping of arguments, or null")
            continue
        known = [stage for stage in stages if name in stage]
        if not known:
            names = [name for stage in stages for name in stage]
            problems.append(f"augment.{name}: no '{name}'; {suggest(str(name), names)}")
        problems += [p for stage in known for p in stage.check(f"augment.{name}", {"name": name, **arguments})]
    crops = [name for name, arguments in given.items() if arguments is not None and name in stages[0]]
    if len(crops) > 1:
        problems.append(f"augment: {' and '.join(crops)} were given; expected one of them: an image is cut out once")
    return problems


def _check_relations(tree: Mapping[str, Any]) -> list[str]:
    """What no single key's annotation can say."""
    problems = []
    engine, split = tree.get("engine"), tree.get("split")
    written = (
        ("engine", "log_every", parse_duration),
        ("engine", "checkpoint_every", parse_duration),
        ("engine", "max_time", parse_time),
        ("schedule", "warmup", parse_duration),
        ("model", "unfreeze_after", parse_duration),
    )
    for group, key, read in written:
        if isinstance(tree.get(group), Mapping) and isinstance(tree[group].get(key), str):
            try:
                read(tree[group][key])
            except ValueError as error:
                problems.append(f"{group}.{key}: {error}")
    if isinstance(engine, Mapping) and isinstance(engine.get("device"), str):
        try:
            device = choose_device(engine["device"])
        except ConfigError as error:
            problems += error.problems
        else:
            problems += _check_speed(tree, device)
    if isinstance(engine, Mapping) and engine.get("sync_batch_norm") and engine.get("micro_batch_size") is not None:
        problems.append(
            "engine.sync_batch_norm, engine.micro_batch_size: both were given; expected one of them "
            "(the statistics of a whole batch need all of its images at once)"
        )
    if isinstance(split, Mapping):
        for key in ("valid", "test"):
            if split.get(key) == 1:
                problems.append(f"split.{key}: 1 was given; expected less than 1: nothing would be left to train on")
    model, average = tree.get("model"), tree.get("average")
    freezes = isinstance(model, Mapping) and bool(model.get("freeze"))
    if freezes and isinstance(average, Mapping) and average.get("name") == "swa":
        problems.append(
            "average: swa was given beside model.freeze; expected ema or none: swa computes the statistics of batch "
            "normalisation anew, which what is frozen keeps"
        )
    if tree.get("steps") is not None and tree.get("examples") is not None:
        problems.append("steps, examples: both were given; expected one of them (each stands in for epochs)")
    return problems + _check_folds(tree.get("folds"), tree.get("fold"), tree.get("fit_on"))


def _check_folds(folds: Any, fold: Any, fit_on: Any) -> list[str]:
    problems = []
    if folds is not None and fit_on == "train_valid":
        problems.append("folds, fit_on: each fold validates on images that fit_on=train_valid trains on; expected one")
    if fold is not None and not (isinstance(folds, int) and isinstance(fold, int) and fold < folds):
        problems.append(f"fold: {fold!r} was given; expected null, or a whole number below folds ({folds})")
    return problems


def _check_speed(tree: Mapping[str, Any], device: torch.device) -> list[str]:
    """What the device, or another choice, has no room for."""
    engine, optimizer = tree["engine"], tree.get("optimizer")
    problems = []
    missing = explain_missing(engine.get("precision"), device)
    if missing:
        problems.append(f"engine.precision: {missing}")
    if engine.get("precision") == "fp16" and isinstance(optimizer, Mapping) and optimizer.get("name") == "lbfgs":
        problems.append(
            "engine.precision: fp16 was given; expected another one beside optimizer lbfgs, which compares losses of "
            "one step, while fp16 leaves steps out"
        )
    if engine.get("compile") == "reduce-overhead" and device.type != "cuda":
        problems.append(
            f"engine.compile: reduce-overhead was given; expected another: {device.type} has no CUDA graphs"
        )
    if engine.get("compile") == "reduce-overhead" and engine.get("micro_batch_size") is not None:
        problems.append(
            "engine.compile, engine.micro_batch_size: reduce-overhead and a size were given; expected one of them "
            "(a recorded graph overwrites the gradients of the piece before)"
        )
    return problems


def import_modules(names: Any) -> None:
    """Import the user's own packages, so that what they register is known. The current folder is searched too.

    Raises ConfigError naming every module that cannot be imported.
    """
    if not names:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"imports: {names!r} was given; expected a list of modules, such as [my_package.models]")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    problems = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            problems.append(
                f"imports: {name} cannot be imported ({error}); expected an installed module, or one in this folder"
            )
    if problems:
        raise ConfigError(problems)


def apply_overrides(tree: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A saved tree with `key=value` overrides, values written as in YAML. Raises ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    wrong = [text for text in overrides if "=" not in text or text.startswith("=")]
    if wrong:
        raise ConfigError([f"{text!r} was given; expected key=value" for text in wrong])
    try:
        merged = OmegaConf.merge(OmegaConf.create(dict(tree)), OmegaConf.from_dotlist(overrides))
        return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"overrides {' '.join(overrides)}: {error}") from error
