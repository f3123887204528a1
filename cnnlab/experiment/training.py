"""All that trains and that it is measured by, made from the images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch

from cnnlab.config import Config
from cnnlab.data import Dataset, Facts
from cnnlab.data.batches import Batches
from cnnlab.distributed import num_processes, rank
from cnnlab.durations import Duration
from cnnlab.engine.compute import Compute
from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.loop import Plan
from cnnlab.engine.step import Training, unchanged
from cnnlab.engine.timing import StepTimes
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import Assembly, build_criterion
from cnnlab.experiment.dataset import read_parts
from cnnlab.experiment.network import initialise_from_data, keep_features, list_frozen
from cnnlab.optim.registry import Schedule
from cnnlab.optim.schedules import build_schedule
from cnnlab.optim.stepping import plain_step


@dataclass(frozen=True)
class Experiment:
    """All that a run needs. The test batches stand apart from what `Training` is handed."""

    training: Training
    plan: Plan
    parts: Mapping[str, Batches]  # the images of each; of the training batches `training` has this process's share
    test: BatchSource | None
    facts: Facts  # with the mean and standard deviation that are used

    def fingerprints(self) -> dict[str, str]:
        """By what the images of each part are known again."""
        return {part: batches.fingerprint() for part, batches in self.parts.items()}

    def computed_as(self, compute: Compute) -> Experiment:
        """The same experiment, from now on in this way; the network is changed in place."""
        return replace(self, training=self.training.computed_as(compute))


def build_experiment(config: Config, assembly: Assembly) -> Experiment:
    """Read the images, and with them everything that a run needs. Raises DataError."""
    model, optimizer, dataset = assembly.network.model, assembly.optimizer, assembly.dataset
    parts = read_parts(config, dataset, assembly.network.device)
    train = parts["train"].divided(rank(), num_processes())
    count_steps = partial(Duration.count_steps, num_examples=train.num_examples, batch_size=config.batch_size)
    schedule, num_steps = plan_schedule(config, train.num_examples)
    initialise_from_data(config, assembly.network, train)
    network, sources = keep_features(config, assembly.network, dataset.facts, {**parts, "train": train})
    shared = config.optimizer.shared
    training = Training(
        network=network,
        criterion=build_criterion(config, dataset.facts, network.device, train.labels),
        optimizer=optimizer,
        plain_step=plain_step(optimizer),
        schedule=schedule,
        average=config.average.build(model=model, optimizer=optimizer, num_steps=num_steps, train=train),
        train=sources["train"],
        valid=sources.get("valid"),
        seed=config.seed,
        clip_norm=shared.clip_norm,
        clip_value=shared.clip_value,
        frozen=list_frozen(config, model, count_steps),
        can_cut=not config.engine.sync_batch_norm,
        learn_hardest=config.learn_hardest,
        times=StepTimes(network.device),
        metrics=config.metrics,
    )
    require_last_batch(training)
    facts = replace(dataset.facts, mean=train.normalise.mean, std=train.normalise.std)
    plan = make_plan(config, dataset, num_steps, count_steps)
    return Experiment(training, plan, parts, sources.get("test"), facts)


def require_last_batch(training: Training) -> None:
    """Raises ConfigError where the last batch of an epoch is a single image, and the network needs more to train."""
    train, num_images = training.train, training.train.num_examples
    if num_processes() > 1 or num_images - (len(train) - 1) * train.batch_size != 1:
        return
    images, _ = train.batch(0, len(train) - 1)
    with unchanged(training), torch.no_grad():
        for part in training.frozen:
            part.hold(0)
        try:
            training.network(images)
        except ValueError as error:  # of batch normalisation over a single value
            fitting = next(size for size in count(train.batch_size + 1) if num_images % size != 1)
            raise ConfigError(
                f"batch_size: {train.batch_size} was given; of {num_images:,} training images it leaves a last batch "
                f"of one, of which this network's batch normalisation has no statistics; expected {fitting}, or "
                "another number that leaves more or none"
            ) from error


def make_plan(config: Config, dataset: Dataset, num_steps: int, count_steps: Callable[[Duration], int]) -> Plan:
    """How long and how often, in steps."""
    engine = config.engine
    select_by = engine.select_by if engine.select_by != "auto" else dataset.facts.task.selects_by
    stop_by = engine.stop_by
    if stop_by == "auto":
        stop_by = select_by if config.division.has_valid(dataset) else "train_loss"
    return Plan(
        num_steps=num_steps,
        log_every=count_steps(engine.log_every),
        checkpoint_every=count_steps(engine.checkpoint_every),
        select_by=select_by,
        stop_by=stop_by,
        patience=engine.patience,
        min_delta=engine.min_delta,
        max_seconds=engine.max_time.seconds if engine.max_time else math.inf,
    )


def plan_schedule(config: Config, num_examples: int) -> tuple[Schedule, int]:
    """The schedule of a run that trains on `num_examples` images, and how many steps it has.

    Raises ConfigError for a warm-up that does not end before the run does.
    """
    count_steps = partial(Duration.count_steps, num_examples=num_examples, batch_size=config.batch_size)
    num_steps, warmup = count_steps(config.duration), config.schedule.shared.warmup
    num_warmup = count_steps(warmup) if warmup else 0
    if num_warmup >= num_steps:
        raise ConfigError(
            f"schedule.warmup: {warmup} was given, {num_warmup:,} steps of {num_steps:,}; expected less than the run"
        )
    return build_schedule(config.schedule, num_steps, count_steps(Duration(1, "epoch")), num_warmup), num_steps
