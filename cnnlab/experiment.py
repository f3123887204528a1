"""A configuration becomes objects: the only file that knows models, data, optim and engine together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cnnlab.config import Config, parse
from cnnlab.data import AUGMENTS, DATASETS, Dataset, ImageSet
from cnnlab.data.batches import Batches, pixel_statistics
from cnnlab.data.split import split_off
from cnnlab.engine.durations import count_steps, parse_duration
from cnnlab.engine.loop import Plan, Training
from cnnlab.errors import ConfigError, DataError
from cnnlab.models import INITS, MODELS
from cnnlab.models.shapes import require_size
from cnnlab.optim import LOSSES, OPTIMIZERS, SCHEDULES
from cnnlab.optim.optimizers import plain_step
from cnnlab.optim.registry import Loss
from cnnlab.runtime import choose_device, derive_seed

REGISTRIES = {
    "model": MODELS,
    "model.init": INITS,
    "dataset": DATASETS,
    "augment": AUGMENTS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
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


def read_config(tree: Mapping[str, Any]) -> Config:
    """A tree, checked against everything registered. Raises ConfigError with all problems."""
    return parse(tree, REGISTRIES)


def assemble(config: Config) -> Assembly:
    """Device, network, optimizer and loss. Raises ConfigError, or DataError for a dataset that is not there."""
    device = start_device(config)
    dataset: Dataset = DATASETS.build(config.dataset)
    model = build_model(config, dataset).to(device)
    return Assembly(device, dataset, model, build_optimizer(config, model.parameters()), LOSSES.build(config.loss))


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

    plan = Plan(
        num_steps=steps(*config.duration),
        log_every=steps(*parse_duration(config.engine.log_every)),
        checkpoint_every=steps(*parse_duration(config.engine.checkpoint_every)),
        select_by=config.engine.select_by,
    )
    training = Training(
        model=assembly.model,
        loss=assembly.loss,
        optimizer=assembly.optimizer,
        take_step=plain_step(assembly.optimizer),
        schedule=SCHEDULES.build(config.schedule, num_steps=plan.num_steps, steps_per_epoch=len(train)),
        train=train,
        valid=parts.get("valid"),
        device=assembly.device,
        seed=config.seed,
    )
    return Experiment(training, plan, parts.get("test"))


def start_device(config: Config) -> torch.device:
    """The configured device, and the number of threads set."""
    if config.engine.threads is not None:
        torch.set_num_threads(config.engine.threads)
    return choose_device(config.engine.device)


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
        given, num_classes=len(dataset.classes), in_channels=dataset.channels, image_size=dataset.image_size
    )


def build_optimizer(config: Config, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of those that training may change. Raises ConfigError for arguments that exclude each other."""
    try:
        return OPTIMIZERS.build(config.optimizer, params=[p for p in parameters if p.requires_grad])
    except ValueError as error:  # torch's own checks, of arguments against each other
        raise ConfigError(f"optimizer: {error}") from error


def read_parts(config: Config, dataset: Dataset, device: torch.device) -> dict[str, Batches]:
    """The parts there are, of "train", "valid" and "test", as batches on the device. Raises DataError."""
    read = {part: dataset.read(part) for part in dataset.parts}
    for part, images in read.items():
        if len(images) == 0:
            raise DataError(f"dataset {config.dataset['name']}: its part '{part}' holds no images")
    # Indices into the images that were read: splitting copies none of them.
    chosen = {part: (part, torch.arange(len(images))) for part, images in read.items()}
    labels, pool = read["train"].labels, chosen["train"][1]
    for part, fraction in (("test", config.split.test), ("valid", config.split.valid)):
        if part not in chosen and fraction > 0:
            kept, taken = split_off(labels[pool], fraction, config.split.seed, part)
            if len(taken) == 0 or len(kept) == 0:
                raise DataError(
                    f"split.{part}={fraction:g} of {len(pool)} images leaves {len(kept)} to train on and "
                    f"{len(taken)} for '{part}'; expected at least one each: change the share or set it to 0"
                )
            chosen[part], pool = ("train", pool[taken]), pool[kept]
    chosen["train"] = ("train", pool)

    mean, std = dataset.mean, dataset.std
    if mean is None or std is None:
        mean, std = pixel_statistics(read["train"], pool)
    resident = {part: ImageSet(images.images.to(device), images.labels.to(device)) for part, images in read.items()}
    augmentations = {
        name: partial(AUGMENTS[name], **arguments)
        for name, arguments in config.augment.items()
        if arguments is not None
    }
    batches = partial(Batches, mean=mean, std=std, channels_last=config.engine.memory_format == "channels_last")
    parts = {
        part: batches(resident[source], indices, config.engine.eval_batch_size)
        for part, (source, indices) in chosen.items()
    }
    parts["train"] = batches(resident["train"], pool, config.batch_size, seed=config.seed, augmentations=augmentations)
    return parts


def count_parameters(model: nn.Module) -> int:
    """How many numbers training may change; a tensor that two layers share counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
