"""What a run needs beside images: making it finds what the configuration's checks cannot, before an image is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnnlab.config import Config
from cnnlab.data import Dataset, Facts
from cnnlab.data.groups import find_groups
from cnnlab.data.parts import divide
from cnnlab.device import start_device
from cnnlab.distributed import num_processes
from cnnlab.engine.network import Network
from cnnlab.errors import ConfigError
from cnnlab.experiment.dataset import build_dataset
from cnnlab.experiment.network import build_network
from cnnlab.metrics import ON_REQUEST
from cnnlab.models.batch_norm import synchronise_batch_norm
from cnnlab.models.freezing import find_frozen
from cnnlab.models.head import find_head
from cnnlab.models.shapes import require_size
from cnnlab.modes import keep_modes
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.losses import Criterion, build_loss, needs_class_counts
from cnnlab.tasks import MULTILABEL

IN_PIXELS = ("size", "padding", "pixels")  # arguments of augmentations


@dataclass(frozen=True)
class Assembly:
    """The objects that need no images."""

    dataset: Dataset
    network: Network
    optimizer: Optimizer
    criterion: Criterion


def assemble(config: Config, *, trained: bool = False) -> Assembly:
    """Network, optimizer and loss. Raises ConfigError, or DataError for a dataset that is not there.

    `trained`: as of `build_network`.
    """
    device = start_device(config.engine.device, config.engine.threads, config.engine.deterministic)
    dataset = build_dataset(config)
    facts = dataset.facts
    criterion = build_criterion(config, facts, device)
    require_metrics(config, dataset)
    require_normalisation(config, facts)
    groups = find_groups(config.split.groups, dataset.files.get("train"))
    if dataset.files:  # whose labels are known before a picture is opened
        labels = {part: dataset.files[part].label_tensor() for part in dataset.parts}
        divide(config.division, labels, facts.classes, groups)
    network = build_network(config, facts, device, trained=trained)
    require_fitting_augmentations(config, facts, network.model)
    if config.engine.sync_batch_norm and num_processes() > 1:
        network = replace(network, model=synchronise_batch_norm(network.model, device))
    if config.loss.name == "nll":
        require_log_probabilities(network, facts)
    shared = config.model.shared
    late = find_frozen(network.model, shared.freeze)[0] if shared.unfreeze_after is not None else []
    optimizer = build_optimizer(config.optimizer, network.model, config.batch_size, late, find_head)
    if config.average.name != "none" and hasattr(optimizer, "averaged"):
        raise ConfigError(
            f"average: {config.average.name} was given beside optimizer {config.optimizer.name}, which averages "
            "the weights itself; expected average=none"
        )
    return Assembly(dataset, network, optimizer, criterion)


def build_criterion(
    config: Config, facts: Facts, device: torch.device, train_labels: Tensor | None = None
) -> Criterion:
    """The loss; where that is asked for its classes are weighted by how rare they are among the training images.

    Before their labels are known all classes count alike. Raises ConfigError for a loss that does not fit the task.
    """
    counts = None
    if train_labels is not None and needs_class_counts(config.loss):
        if facts.task is MULTILABEL:
            counts = torch.stack([(train_labels == 0).sum(0), (train_labels == 1).sum(0)])
        else:
            counts = torch.bincount(train_labels, minlength=len(facts.classes))
    return build_loss(config.loss, facts.task, len(facts.classes), device, counts)


def require_log_probabilities(network: Network, facts: Facts) -> None:
    """Raises ConfigError for a network whose outputs are no logarithms of probabilities, as `nll` needs them."""
    noise = torch.rand(
        2, facts.channels, facts.image_size, facts.image_size, generator=torch.Generator().manual_seed(0)
    )
    with keep_modes(network.model), torch.no_grad():
        network.model.eval()
        total = network(noise.to(network.device)).logsumexp(1)
    if total.abs().max() > 1e-3:
        raise ConfigError(
            "loss: nll was given; expected cross_entropy: this network ends in logits, and nll takes its "
            "outputs for logarithms of probabilities"
        )


def require_fitting_augmentations(config: Config, facts: Facts, model: nn.Module) -> None:
    """Raises ConfigError for one that nothing of an image would remain of, or that enlarges images to fewer pixels.

    And for images that are smaller in some epochs, where they are larger or the network does not take them.
    """
    given = [(each.name, key, value) for each in config.augment for key, value in each.arguments.items()]
    problems = [
        f"augment.{name}.{key}: {value} was given; expected at most {facts.image_size}, the pixels of an image's side"
        for name, key, value in given
        if key in IN_PIXELS and value > facts.image_size and name != "enlarge_crop"
    ]
    problems += [
        f"augment.{name}.{key}: {value} was given; expected at least {facts.image_size}, the pixels of an image's side"
        for name, key, value in given
        if name == "enlarge_crop" and value < facts.image_size
    ]
    for size in {
        size for each in config.augment if each.name == "small_at_first" for size in each.arguments.get("sizes", ())
    }:
        try:
            if size > facts.image_size:
                raise ConfigError(f"images have {facts.image_size} pixels a side, and begin with no more")
            require_size(model, facts.channels, size)
        except ConfigError as error:
            problems.append(f"augment.small_at_first.sizes: {size} was given; {error}")
    if problems:
        raise ConfigError(problems)


def require_normalisation(config: Config, facts: Facts) -> None:
    """Raises ConfigError for a mean and a deviation of other channels than the images have."""
    given = config.dataset.shared.normalize
    num_given = 3 if given in ("imagenet", "course") else len(given["mean"]) if isinstance(given, dict) else 1
    if num_given not in (1, facts.channels):
        raise ConfigError(
            f"dataset.normalize: {given} was given, for {num_given} channels, and {config.dataset.name} has "
            f"{facts.channels}; expected auto, null, or a mean and a std of as many numbers, or of one for all"
        )


def require_metrics(config: Config, dataset: Dataset) -> None:
    """Raises ConfigError for a metric that the run would not have: of another task, or without validation images."""
    task, select_by = dataset.facts.task, config.engine.select_by
    problems = []
    valid_columns = task.valid_columns + (ON_REQUEST if task.has_classes else ())
    has_valid = config.division.has_valid(dataset)
    if select_by != "auto" and not has_valid:
        problems.append(
            f"engine.select_by: {select_by} was given; expected auto: no validation images are kept back to select by"
        )
    elif select_by != "auto" and select_by not in valid_columns:
        expected = " or ".join(valid_columns)
        problems.append(f"engine.select_by: {select_by} was given; expected auto, {expected} for {task}")
    if config.sampling == "balanced" and not task.has_classes:
        problems.append(f"sampling: balanced was given; expected shuffled: {task} has no classes to balance")
    strange = [name for name in config.metrics if name not in task.metrics]
    if strange and not task.has_classes:
        problems.append(f"engine.metrics: {', '.join(strange)} are of classes, and {task} has none; expected []")
    if "top5_accuracy" in config.metrics and len(dataset.facts.classes) <= 5:
        problems.append(
            f"engine.metrics: top5_accuracy was given; {config.dataset.name} has {len(dataset.facts.classes)} classes, "
            "and it needs more than five"
        )
    columns = task.train_columns + (valid_columns if has_valid else ())
    watched = {"schedule.metric": config.schedule.arguments.get("metric"), "engine.stop_by": config.engine.stop_by}
    for key, column in watched.items():
        if column not in (None, "auto", *columns):
            problems.append(f"{key}: {column} was given; this run has {', '.join(columns)}")
    if problems:
        raise ConfigError(problems)
