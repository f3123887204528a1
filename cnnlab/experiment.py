"""A configuration becomes objects: the only file that knows models, data, optim and engine together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnnlab.config import Config, parse
from cnnlab.data import AUGMENTS, CROPS, DATASETS, MIXES, Dataset
from cnnlab.data.batches import Batches, pixel_statistics
from cnnlab.data.split import assign_folds, join_valid, split_off
from cnnlab.distributed import local_rank, num_processes, rank
from cnnlab.engine.choice import PLAIN, Choice, apply_choice, choose, plain_choice, recall, try_compiled
from cnnlab.engine.durations import count_steps, parse_duration, parse_time
from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.frozen import Frozen
from cnnlab.engine.kept_features import KeptFeatures
from cnnlab.engine.loop import Plan
from cnnlab.engine.step import Average, Training
from cnnlab.engine.timing import StepTimes
from cnnlab.errors import ConfigError, DataError
from cnnlab.models import INITS, MODELS
from cnnlab.models.batch_norm import synchronise_batch_norm
from cnnlab.models.freezing import OnFeatures, find_frozen
from cnnlab.models.head import replace_head
from cnnlab.models.registry import ForEveryModel
from cnnlab.models.shapes import require_size
from cnnlab.optim import AVERAGES, LOSSES, OPTIMIZERS, SCHEDULES
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.losses import Criterion, build_loss, needs_class_counts
from cnnlab.optim.registry import ForEveryOptimizer, Schedule
from cnnlab.optim.schedules import build_schedule
from cnnlab.optim.stepping import plain_step
from cnnlab.runtime import choose_device, derive_seed, keep_freed_memory
from cnnlab.tasks import METRIC, Task

REGISTRIES = {
    "model": MODELS,
    "model.init": INITS,
    "dataset": DATASETS,
    "crop": CROPS,
    "augment": AUGMENTS,
    "mix": MIXES,
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
    loss: Criterion


@dataclass(frozen=True)
class Experiment:
    """All that a run needs. The test batches stand apart from what `Training` is handed."""

    training: Training
    plan: Plan
    train: Batches  # whole batches, of which `training` has this process's share
    test: BatchSource | None
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
        divide(config, dataset, {part: dataset.files[part].label_tensor() for part in dataset.parts})
    model = build_model(config, dataset).to(device)
    if config.engine.sync_batch_norm and num_processes() > 1:
        model = synchronise_batch_norm(model, device)
    tuning: ForEveryModel = MODELS.read_shared(config.model)
    late = find_frozen(model, tuning.freeze)[0] if tuning.unfreeze_after is not None else []
    optimizer = build_optimizer(config.optimizer, model, config.batch_size, late)
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
    train = parts["train"].divided(rank(), num_processes())

    steps = partial(count_steps, num_examples=train.num_examples, batch_size=config.batch_size)
    engine = config.engine
    select_by = choose_metric(engine.select_by, assembly.dataset.task)
    schedule, num_steps = plan_schedule(config, train.num_examples)
    plan = Plan(
        num_steps=num_steps,
        log_every=steps(*parse_duration(engine.log_every)),
        checkpoint_every=steps(*parse_duration(engine.checkpoint_every)),
        select_by=select_by,
        stop_by=engine.stop_by if engine.stop_by != "auto" else select_by if "valid" in parts else "train_loss",
        patience=engine.patience,
        min_delta=engine.min_delta,
        max_seconds=parse_time(engine.max_time) if engine.max_time else math.inf,
    )
    shared: ForEveryOptimizer = OPTIMIZERS.read_shared(config.optimizer)
    average: Average | None = AVERAGES.build(
        config.average, model=assembly.model, num_steps=plan.num_steps, train=train
    )
    model, sources = keep_features(config, assembly, {**parts, "train": train})
    loss = find_loss(config, assembly, train)
    training = Training(
        model=model,
        loss=loss,
        optimizer=assembly.optimizer,
        take_step=plain_step(assembly.optimizer),
        weigh=loss.weigh,
        clip_norm=shared.clip_norm,
        clip_value=shared.clip_value,
        average=average,
        averaged=average.averaged if average else getattr(assembly.optimizer, "averaged", nullcontext),
        schedule=schedule,
        train=sources["train"],
        valid=sources.get("valid"),
        device=assembly.device,
        seed=config.seed,
        task=assembly.dataset.task,
        frozen=hold_frozen(config, assembly.model, steps),
        may_cut=not config.engine.sync_batch_norm,
        times=StepTimes(assembly.device),
    )
    dataset = replace(assembly.dataset, mean=train.mean, std=train.std)
    experiment = Experiment(training, plan, parts["train"], sources.get("test"), dataset)
    return compute_as(plain_choice(asdict(engine)), experiment)


def compute_as(choice: Choice, experiment: Experiment) -> Experiment:
    """The same experiment, computed in another way: the network, and the images that it is handed."""
    training = apply_choice(experiment.training, choice)
    for batches in (training.train, training.valid, experiment.train, experiment.test):
        if batches is not None:
            batches.channels_last = choice.memory_format == "channels_last"
    return replace(experiment, training=training)


def settle(
    config: Config, experiment: Experiment, chosen: Mapping[str, Any]
) -> tuple[Experiment, dict[str, Any], list[str]]:
    """The experiment computed as the configuration says. Where it says "auto": as was `chosen` before, or measured.

    Returns with it what summary.json tells of the choice, and lines for the log.
    """
    given = recall(asdict(config.engine), chosen)

    def apply(choice: Choice) -> Training:
        return compute_as(choice, experiment).training

    lines = []
    if given["compile"] not in ("auto", "off"):
        failure = try_compiled(experiment.training, apply, plain_choice(given))
        if failure:
            given["compile"] = "off"
            lines.append(failure)
    size = config.engine.micro_batch_size
    choice, timings, warnings = choose(experiment.training, apply, given, experiment.plan.num_steps, size)
    timings = timings or chosen.get("timings", {})
    lines += warnings
    if timings or choice != PLAIN:
        seen = [f"{name}: {speed:,.0f}" for name, speed in timings.items()]
        lines.append(f"computing in {choice}" + (f" (images/s by measurement: {'; '.join(seen)})" if seen else ""))
    return compute_as(choice, experiment), {**asdict(choice), "timings": timings}, lines


def plan_schedule(config: Config, num_examples: int) -> tuple[Schedule, int]:
    """The schedule of a run that trains on `num_examples` images, and how many steps it has."""
    steps = partial(count_steps, num_examples=num_examples, batch_size=config.batch_size)
    num_steps = steps(*config.duration)
    warmup = SCHEDULES.read_shared(config.schedule).warmup
    num_warmup = steps(*parse_duration(warmup)) if warmup else 0
    return build_schedule(config.schedule, num_steps, steps(1, "epoch"), num_warmup), num_steps


def build_dataset(config: Config) -> Dataset:
    """The dataset with the task that the configuration chooses for it. Raises ConfigError if it cannot have it."""
    dataset: Dataset = DATASETS.build(config.dataset)
    if trains_on_valid(config):
        dataset = join_valid(dataset)
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
    trained = [f"train_{name}" for name in ("loss", METRIC[dataset.task])]
    valid = [f"valid_{name}" for name in ("loss", METRIC[dataset.task])]
    valid += [] if dataset.task == "regression" else ["valid_log_loss"]
    problems = []
    if select_by != "auto" and select_by not in valid:
        expected = " or ".join(valid)
        problems.append(f"engine.select_by: {select_by} was given; expected auto, {expected} for {dataset.task}")
    if config.sampling == "balanced" and dataset.task == "regression":
        problems.append("sampling: balanced was given; expected shuffled: regression has no classes to balance")
    columns = trained + valid if has_validation(config, dataset) else trained
    for key, watched in (("schedule.metric", config.schedule.get("metric")), ("engine.stop_by", config.engine.stop_by)):
        if watched not in (None, "auto", *columns):
            problems.append(f"{key}: {watched} was given; this run has {', '.join(columns)}")
    if problems:
        raise ConfigError(problems)


def has_validation(config: Config, dataset: Dataset) -> bool:
    """Whether images are kept back that choose the best checkpoint."""
    if config.engine.overfit is not None or config.folds is not None or "valid" in dataset.parts:
        return True
    return config.split.valid > 0 and not trains_on_valid(config)


def trains_on_valid(config: Config) -> bool:
    """Whether the validation images join the training images: all of them, or before folds are made."""
    return config.fit_on == "train_valid" or config.folds is not None


def start_device(config: Config) -> torch.device:
    """The configured device, with threads and memory set for it."""
    if config.engine.threads is not None:
        torch.set_num_threads(config.engine.threads)
    device = choose_device(config.engine.device)
    if device.type == "cuda" and num_processes() > 1:
        torch.cuda.set_device(local_rank())
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
    if plain_choice(asdict(config.engine)).memory_format == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    return model


def build_network(config: Config, dataset: Dataset) -> nn.Module:
    """The network as its builder leaves it, but for its head and what never learns.

    Its arithmetic may yet keep it from running.
    """
    given = {key: value for key, value in config.model.items() if key != "init"}
    network = MODELS.build(
        given, num_classes=dataset.num_outputs, in_channels=dataset.channels, image_size=dataset.image_size
    )
    tuning: ForEveryModel = MODELS.read_shared(config.model)
    if tuning.head or tuning.head_dropout:
        replace_head(network, tuning.head, tuning.head_dropout)
    if tuning.freeze:
        parameters, _ = find_frozen(network, tuning.freeze)
        for parameter in parameters:
            parameter.requires_grad_(tuning.unfreeze_after is not None)
    return network


def find_loss(config: Config, assembly: Assembly, train: Batches) -> Criterion:
    """The loss, its classes weighted by how rare they are among the training images where that is asked for."""
    if not needs_class_counts(config.loss):
        return assembly.loss
    num_classes = len(assembly.dataset.classes)
    counts = torch.bincount(train.labels, minlength=num_classes)
    return build_loss(config.loss, assembly.dataset.task, num_classes, assembly.device, counts)


def keep_features(
    config: Config, assembly: Assembly, parts: Mapping[str, Batches]
) -> tuple[nn.Module, Mapping[str, BatchSource]]:
    """What learns, and from what: the network and images, or its head and features where these are kept.

    Raises ConfigError where features are asked for of a network that has none to keep.
    """
    tuning: ForEveryModel = MODELS.read_shared(config.model)
    num_views = tuning.feature_views
    if num_views == "auto":
        stays = tuning.freeze == "backbone" and tuning.unfreeze_after is None
        num_views = 1 if stays and parts["train"].shows_alike else 0
    if num_views == 0:
        return assembly.model, parts
    if parts["train"].mixes:
        raise ConfigError(
            f"model.feature_views: {num_views} was given beside augment.{' and augment.'.join(parts['train'].mixes)}; "
            "expected 0: features are kept of single images"
        )
    network = OnFeatures(assembly.model)
    if not network.ends_in_head(assembly.dataset.channels, assembly.dataset.image_size):
        if tuning.feature_views == "auto":
            return assembly.model, parts
        raise ConfigError(
            f"model.feature_views: {num_views} was given, but {config.model['name']} goes on behind its last layer, "
            f"{network.head}; expected 0, or a network that ends in that layer"
        )
    views = {part: num_views if part == "train" else 1 for part in parts}
    return network, {part: KeptFeatures(batches, network.look, views[part]) for part, batches in parts.items()}


def hold_frozen(config: Config, model: nn.Module, steps: Callable[[float, str], int]) -> Frozen | None:
    """What of the network does not learn, and until when."""
    tuning: ForEveryModel = MODELS.read_shared(config.model)
    if not tuning.freeze:
        return None
    until = steps(*parse_duration(tuning.unfreeze_after)) if tuning.unfreeze_after else math.inf
    return Frozen(*find_frozen(model, tuning.freeze), until)


def read_parts(config: Config, dataset: Dataset, device: torch.device) -> dict[str, Batches]:
    """The parts there are, of "train", "valid" and "test", as batches on the device. Raises DataError."""
    read = {part: dataset.read(part) for part in dataset.parts}
    for part, images in read.items():
        if len(images) == 0:
            raise DataError(f"dataset {config.dataset['name']}: its part '{part}' holds no images")
    chosen = divide(config, dataset, {part: images.labels for part, images in read.items()})
    pool = chosen["train"][1]

    mean, std = dataset.mean, dataset.std
    own = mean is None or std is None or DATASETS.read_shared(config.dataset).normalize == "auto"
    if own and read["train"].holds_pixels:
        mean, std = pixel_statistics(read["train"], pool)
    resident = {part: images.to(device) for part, images in read.items()}
    given = config.augment if config.engine.overfit is None else {}
    crops, augmentations, mixes = (
        {name: partial(stage[name], **given[name]) for name in given if name in stage and given[name] is not None}
        for stage in (CROPS, AUGMENTS, MIXES)
    )
    if (crops or augmentations) and not read["train"].holds_pixels:
        names = ", ".join([*crops, *augmentations])
        raise ConfigError(f"augment: {names} change pixels, and dataset {config.dataset['name']} has other numbers")
    channels_last = plain_choice(asdict(config.engine)).memory_format == "channels_last"
    batches = partial(Batches, mean=mean, std=std, channels_last=channels_last)
    parts = {
        part: batches(resident[source], indices, config.engine.eval_batch_size)
        for part, (source, indices) in chosen.items()
    }
    parts["train"] = batches(
        resident["train"],
        pool,
        config.batch_size,
        seed=config.seed,
        sampling=config.sampling,
        crop=next(iter(crops.values()), None),
        augmentations=augmentations,
        mixes=mixes,
    )
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


def count_work(assembly: Assembly) -> int:
    """Multiply-adds of one image's forward pass."""
    from cnnlab.models.summary import count_multiply_adds  # with torch's counter, which takes a while to import

    return count_multiply_adds(assembly.model, assembly.dataset.channels, assembly.dataset.image_size)


def count_parameters(model: nn.Module) -> int:
    """How many numbers training may change; a tensor that two layers share counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
