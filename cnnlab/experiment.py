"""A configuration becomes objects: the only file that knows models, data, optim and engine together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnnlab.config import Config, parse
from cnnlab.data import AUGMENTS, DATASETS, Dataset, ImageSet
from cnnlab.data.batches import Batches, pixel_statistics
from cnnlab.data.split import assign_folds, split_off
from cnnlab.engine.durations import count_steps, parse_duration, parse_time
from cnnlab.engine.loop import Plan
from cnnlab.engine.step import Average, Training
from cnnlab.errors import ConfigError, DataError
from cnnlab.models import INITS, MODELS
from cnnlab.models.shapes import require_size
from cnnlab.optim import AVERAGES, LOSSES, OPTIMIZERS, SCHEDULES
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.losses import build_loss, weigh_by
from cnnlab.optim.registry import ForEveryOptimizer, Loss
from cnnlab.optim.schedules import build_schedule
from cnnlab.optim.stepping import plain_step
from cnnlab.runtime import choose_device, derive_seed, keep_freed_memory
from cnnlab.tasks import METRIC, Task

REGISTRIES = {
    "model": MODELS,
    "model.init": INITS,
    "dataset": DATASETS,
    "augment": AUGMENTS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "average": AVERAGES,
}


@dataclass(frozen=True)
class Assembly:
    """The objects that need no images; making them finds what the configuration's checks cannot."""

    device: torch.device
    dataset: Dataset
    model: nn.Module
    optimizer: Optimizer
    loss: Loss


@dataclass(frozen=True)
class Experiment:
    """All that a run needs. The test batches stand apart from what `Training` is handed."""

    training: Training
    plan: Plan
    test: Batches | None
    dataset: Dataset  # with the mean and std that are used


def read_config(tree: Mapping[str, Any]) -> Config:
    """A tree, checked against everything registered. Raises ConfigError with all problems."""
    return parse(tree, REGISTRIES)


def assemble(config: Config) -> Assembly:
    """Device, network, optimizer and loss. Raises ConfigError, or DataError for a dataset that is not there."""
    device = start_device(config)
    dataset = build_dataset(config)
    loss = build_loss(config.loss, dataset.task, len(dataset.classes), device)
    require_metrics(config, dataset)
    if dataset.files:  # whose labels are known before a picture is opened
        divide(config, dataset, {part: torch.tensor(dataset.files[part].labels) for part in dataset.parts})
    model = build_model(config, dataset).to(device)
    optimizer = build_optimizer(config.optimizer, model, config.batch_size)
    if config.average["name"] != "none" and hasattr(optimizer, "averaged"):
        raise ConfigError(
            f"average: {config.average['name']} was given beside optimizer {config.optimizer['name']}, which averages "
            "the weights itself; expected average=none"
        )
    return Assembly(device, dataset, model, optimizer, loss)


def without_weights(config: Config) -> Config:
    """The configuration for a network that gets its weights from a checkpoint, not from `model.weights`."""
    if "weights" not in config.model:
        return config
    return replace(config, model={**config.model, "weights": None})


def build_experiment(config: Config, assembly: Assembly) -> Experiment:
    """Read the images, and with them everything that a run needs. Raises DataError."""
    parts = read_parts(config, assembly.dataset, assembly.device)
    train = parts["train"]

    def steps(amount: float, unit: str) -> int:
        return count_steps(amount, unit, num_examples=train.num_examples, batch_size=config.batch_size)

    engine = config.engine
    select_by = choose_metric(engine.select_by, assembly.dataset.task)
    plan = Plan(
        num_steps=steps(*config.duration),
        log_every=steps(*parse_duration(engine.log_every)),
        checkpoint_every=steps(*parse_duration(engine.checkpoint_every)),
        select_by=select_by,
        stop_by=engine.stop_by if engine.stop_by != "auto" else select_by if "valid" in parts else "train_loss",
        patience=engine.patience,
        min_delta=engine.min_delta,
        max_seconds=parse_time(engine.max_time) if engine.max_time else math.inf,
    )
    warmup = SCHEDULES.read_shared(config.schedule).warmup
    num_warmup = steps(*parse_duration(warmup)) if warmup else 0
    shared: ForEveryOptimizer = OPTIMIZERS.read_shared(config.optimizer)
    average: Average | None = AVERAGES.build(
        config.average, model=assembly.model, num_steps=plan.num_steps, train=train
    )
    training = Training(
        model=assembly.model,
        loss=assembly.loss,
        optimizer=assembly.optimizer,
        take_step=plain_step(assembly.optimizer),
        weigh=weigh_by(assembly.loss),
        clip_norm=shared.clip_norm,
        clip_value=shared.clip_value,
        average=average,
        averaged=average.averaged if average else getattr(assembly.optimizer, "averaged", nullcontext),
        schedule=build_schedule(config.schedule, plan.num_steps, len(train), num_warmup),
        train=train,
        valid=parts.get("valid"),
        device=assembly.device,
        seed=config.seed,
        task=assembly.dataset.task,
    )
    dataset = replace(assembly.dataset, mean=train.mean, std=train.std)
    return Experiment(training, plan, parts.get("test"), dataset)


def build_dataset(config: Config) -> Dataset:
    """The dataset with the task that the configuration chooses for it. Raises ConfigError if it cannot have it."""
    dataset: Dataset = DATASETS.build(config.dataset)
    task = DATASETS.read_shared(config.dataset).task
    if task is None or task == dataset.task:
        return dataset
    if dataset.task == "regression" or len(dataset.classes) != 2:
        raise ConfigError(
            f"dataset.task: {task} was given; expected null: {config.dataset['name']} is {dataset.task} with "
            f"{len(dataset.classes)} outputs, and two classes are needed for a choice"
        )
    return replace(dataset, task=task)


def choose_metric(select_by: str, task: Task) -> str:
    """The column of metrics.csv that finds the best epoch: "auto" is what one wants to be good at."""
    if select_by != "auto":
        return select_by
    return "valid_loss" if task == "regression" else "valid_accuracy"


def require_metrics(config: Config, dataset: Dataset) -> None:
    """Raises ConfigError for a metric that the run would not have: of another task, or without validation images."""
    select_by = config.engine.select_by
    names = ("loss", METRIC[dataset.task])
    problems = []
    if select_by != "auto" and select_by not in {f"valid_{name}" for name in names}:
        expected = " or ".join(f"valid_{name}" for name in names)
        problems.append(f"engine.select_by: {select_by} was given; expected auto, {expected} for {dataset.task}")
    parts = ("train", "valid") if has_validation(config, dataset) else ("train",)
    columns = [f"{part}_{name}" for part in parts for name in names]
    for key, watched in (("schedule.metric", config.schedule.get("metric")), ("engine.stop_by", config.engine.stop_by)):
        if watched not in (None, "auto", *columns):
            problems.append(f"{key}: {watched} was given; this run has {', '.join(columns)}")
    if problems:
        raise ConfigError(problems)


def has_validation(config: Config, dataset: Dataset) -> bool:
    """Whether images are kept back that choose the best checkpoint."""
    if config.engine.overfit is not None:
        return True
    splits = config.split.valid > 0 or config.folds is not None
    return config.fit_on == "train" and (splits or "valid" in dataset.parts)


def trains_on_valid(config: Config) -> bool:
    """Whether the validation images join the training images: all of them, or before folds are made."""
    return config.fit_on == "train_valid" or config.fold is not None


def start_device(config: Config) -> torch.device:
    """The configured device, with threads and memory set for it."""
    if config.engine.threads is not None:
        torch.set_num_threads(config.engine.threads)
    device = choose_device(config.engine.device)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def build_model(config: Config, dataset: Dataset) -> nn.Module:
    """The network for this dataset, initialised from the seed, on the CPU.

    Raises ConfigError, naming the layer, if its arithmetic has no room for images of this size.
    """
    torch.default_generator.manual_seed(derive_seed(config.seed, "init"))
    model = build_network(config, dataset)
    require_size(model, dataset.channels, dataset.image_size)
    if config.model.get("init") is not None:
        model.apply(INITS[config.model["init"]])
    if config.engine.memory_format == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    return model


def build_network(config: Config, dataset: Dataset) -> nn.Module:
    """The network as its builder leaves it, which its arithmetic may yet keep from running."""
    given = {key: value for key, value in config.model.items() if key != "init"}
    return MODELS.build(
        given, num_classes=dataset.num_outputs, in_channels=dataset.channels, image_size=dataset.image_size
    )


def read_parts(config: Config, dataset: Dataset, device: torch.device) -> dict[str, Batches]:
    """The parts there are, of "train", "valid" and "test", as batches on the device. Raises DataError."""
    read = {part: dataset.read(part) for part in dataset.parts}
    for part, images in read.items():
        if len(images) == 0:
            raise DataError(f"dataset {config.dataset['name']}: its part '{part}' holds no images")
    if "valid" in read and trains_on_valid(config):
        read["train"] = join(read["train"], read.pop("valid"))
    chosen = divide(config, dataset, {part: images.labels for part, images in read.items()})
    pool = chosen["train"][1]

    mean, std = dataset.mean, dataset.std
    if (mean is None or std is None) and not read["train"].images.is_floating_point():
        mean, std = pixel_statistics(read["train"], pool)
    resident = {part: ImageSet(images.images.to(device), images.labels.to(device)) for part, images in read.items()}
    augmentations = {
        name: partial(AUGMENTS[name], **arguments)
        for name, arguments in config.augment.items()
        if arguments is not None and config.engine.overfit is None
    }
    batches = partial(Batches, mean=mean, std=std, channels_last=config.engine.memory_format == "channels_last")
    parts = {
        part: batches(resident[source], indices, config.engine.eval_batch_size)
        for part, (source, indices) in chosen.items()
    }
    parts["train"] = batches(resident["train"], pool, config.batch_size, seed=config.seed, augmentations=augmentations)
    return parts


def divide(config: Config, dataset: Dataset, labels: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """What makes up each part, of "train", "valid" and "test": a part of the dataset's own, and indices there.

    `labels` are those of the dataset's parts. Raises DataError where they cannot be split as configured.
    """
    # Indices into the images that were read: splitting copies none of them.
    chosen = {part: (part, torch.arange(len(of_part))) for part, of_part in labels.items()}
    pool = chosen["train"][1]
    shares = {"test": config.split.test, "valid": 0.0 if trains_on_valid(config) else config.split.valid}
    for part, fraction in shares.items():
        if part not in chosen and fraction > 0:
            kept, taken = split_off(labels["train"][pool], fraction, config.split.seed, part, dataset.classes)
            if len(taken) == 0 or len(kept) == 0:
                raise DataError(
                    f"split.{part}={fraction:g} of {len(pool)} images leaves {len(kept)} to train on and "
                    f"{len(taken)} for '{part}'; expected at least one each: change the share or set it to 0"
                )
            chosen[part], pool = ("train", pool[taken]), pool[kept]
    if config.folds is not None and config.fold is not None:
        folds = assign_folds(labels["train"][pool], config.folds, config.split.seed, dataset.classes)
        chosen["valid"], pool = ("train", pool[folds == config.fold]), pool[folds != config.fold]
    if config.engine.overfit is not None:
        few = torch.randperm(len(pool), generator=torch.Generator().manual_seed(config.split.seed))
        pool = pool[few[: config.engine.overfit * config.batch_size]]
        chosen = {"valid": ("train", pool)}
    chosen["train"] = ("train", pool)
    return chosen


def join(*sets: ImageSet) -> ImageSet:
    """All images of some sets, in order."""
    return ImageSet(torch.cat([s.images for s in sets]), torch.cat([s.labels for s in sets]))


def count_parameters(model: nn.Module) -> int:
    """How many numbers training may change; a tensor that two layers share counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
