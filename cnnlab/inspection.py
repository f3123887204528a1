"""`cnnlab inspect`: a network layer by layer, and the memory that training it takes, without reading an image.

And a schedule's curve, or augmented images, without training.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from cnnlab.composition import compose, compose_sweep
from cnnlab.config import Config
from cnnlab.data import Facts
from cnnlab.errors import ConfigError
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.experiment.network import build_model
from cnnlab.experiment.training import plan_schedule
from cnnlab.models.shapes import Shape, require_size, write_shape
from cnnlab.models.summary import Row, Summary, count_bytes, measure_activations, summarize
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.schedules import reads_rows
from cnnlab.optim.stepping import plain_step
from cnnlab.runs.output import announce, check_output
from cnnlab.runs.pictures import draw_augmented
from cnnlab.runs.plots import draw_rates
from cnnlab.runs.saved import read_saved, split_run

HEADER = ("layer", "kind", "output", "parameters", "multiply-adds", "receptive field")
RIGHT = HEADER[3:]  # columns of numbers
MB = 1e6
MAX_POINTS = 10_000  # of a curve


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step holds between its forward and its backward pass; float32 throughout."""

    weights: int  # and buffers, such as running statistics
    gradients: int
    optimizer: int | None  # None: this optimizer does not tell
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + (self.optimizer or 0) + self.activations


def inspect(arguments: list[str], config_dirs: list[str], as_json: bool) -> None:
    """Print the table of the network that `cnnlab train ARGUMENTS` would train, or that a run did.

    Raises ConfigError: for a mistake in the configuration, and after the table for a network that
    images of this size do not pass.
    """
    config = find_config(arguments, config_dirs)
    facts = build_dataset(config).facts
    network = build_model(config, facts)
    summary = summarize(network, facts.channels, facts.image_size)
    memory = None
    if summary.failure is None:
        memory = measure_memory(config, network, facts)
    if as_json:
        print(json.dumps(as_plain(config, facts, summary, memory), indent=2))
    else:
        print_summary(config, facts, summary, memory)
    if summary.failure is not None:
        require_size(network, facts.channels, facts.image_size)  # raises, and says what to do


def find_config(arguments: list[str], config_dirs: list[str]) -> Config:
    """The configuration of a run, if the first argument is its directory, or the one that is typed."""
    run, overrides = split_run(arguments)
    return read_saved(run, overrides) if run else compose(overrides, config_dirs)


# --- Memory -----------------------------------------------------------------------------------------


def measure_memory(config: Config, network: nn.Module, facts: Facts) -> Memory:
    """The memory of a training step with `batch_size` images, each part measured rather than reckoned."""
    per_image = measure_activations(network, facts.channels, facts.image_size)
    return Memory(
        weights=count_bytes(network.parameters()) + count_bytes(network.buffers()),
        gradients=count_bytes(p for p in network.parameters() if p.requires_grad),
        optimizer=measure_optimizer(config, network),
        activations=per_image * config.batch_size,
    )


def refuse_loss() -> tuple[torch.Tensor, torch.Tensor]:
    raise RuntimeError("parameters without numbers have no loss")


def measure_optimizer(config: Config, network: nn.Module) -> int | None:
    """Bytes of state after one step over parameters that have a shape and no numbers."""
    twin = copy.deepcopy(network).to("meta")
    for parameter in twin.parameters():
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer = build_optimizer(config.optimizer, twin, config.batch_size)
        plain_step(optimizer)(refuse_loss)
    except (RuntimeError, TypeError):  # it reads numbers, or wants the loss again
        return None
    states = (value for state in optimizer.state.values() for value in state.values())
    return count_bytes(value for value in states if isinstance(value, torch.Tensor))


# --- For programs -------------------------------------------------------------------------------------


def as_plain(config: Config, facts: Facts, summary: Summary, memory: Memory | None) -> dict[str, Any]:
    return {
        "model": config.model.as_yaml(),
        "dataset": config.dataset.as_yaml(),
        "image": [facts.channels, facts.image_size, facts.image_size],
        "num_classes": len(facts.classes),
        "layers": [asdict(row) for row in summary.rows],
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "batch_size": config.batch_size,
        "memory_bytes": memory and asdict(memory) | {"total": memory.total},
        "failure": summary.failure and str(summary.failure),
    }


# --- For readers --------------------------------------------------------------------------------------


def print_summary(config: Config, facts: Facts, summary: Summary, memory: Memory | None) -> None:
    image = write_shape((facts.channels, facts.image_size, facts.image_size))
    print(f"{config.model.name} on {config.dataset.name}: images of {image}, {len(facts.classes)} classes\n")
    total = ("total", "", "", f"{summary.parameters:,}", f"{summary.multiply_adds:,}", "")
    table = [HEADER, *(write_row(row) for row in summary.rows), total]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    for row in table:
        cells = [
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(HEADER, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
    print("\nMultiply-adds are for one image. A receptive field is in pixels a side, blank where values have no place")
    print("in the image any more, as after a flatten or a global pooling.")
    if memory is not None:
        print_memory(config, memory)


def write_row(row: Row) -> tuple[str, ...]:
    field = row.receptive_field
    if field is None:
        side = ""
    else:
        side = str(field[0]) if field[0] == field[1] else write_shape(field)
    return (row.name, row.kind, write_output(row), f"{row.parameters:,}", f"{row.multiply_adds:,}", side)


def write_output(row: Row) -> str:
    if not row.kind:
        return ""  # what is between layers has no output of its own
    if row.out_shape is None:
        return f"fails on {write_batch(row.in_shape)}"
    return write_batch(row.out_shape)


def write_batch(shape: Shape) -> str:
    return "×".join(["N", *(str(size) for size in shape)])


def print_memory(config: Config, memory: Memory) -> None:
    unknown = memory.optimizer is None
    parts = [
        ("weights", memory.weights, "with buffers"),
        ("gradients", memory.gradients, ""),
        ("optimizer", memory.optimizer or 0, "not known" if unknown else f"the state of {config.optimizer.name}"),
        ("activations", memory.activations, "what autograd keeps for the backward pass, measured with two images"),
    ]
    print(f"\nmemory for a batch of {config.batch_size}: {memory.total / MB:,.1f} MB, and what the libraries work with")
    for name, size, note in parts:
        print(f"  {name:<11}  {size / MB:>9,.1f} MB  {note}".rstrip())


# --- Images -------------------------------------------------------------------------------------------


def draw_training_images(overrides: list[str], config_dirs: list[str], output: str) -> None:
    """Draw the first images that `cnnlab train OVERRIDES` would train on, augmented as there, to a PNG.

    Raises ConfigError for a dataset of other numbers than pixels.
    """
    target = check_output(output)
    config = compose(overrides, config_dirs)
    dataset = build_dataset(config)
    train = read_parts(config, dataset, torch.device("cpu"))["train"]
    if not train.images.holds_pixels:
        raise ConfigError(f"--plot: dataset {config.dataset.name} has no pictures to draw; expected one of images")
    announce(target)
    draw_augmented(train, dataset.facts, target)
    print(output)


# --- Schedules ----------------------------------------------------------------------------------------


def draw_schedules(overrides: list[str], config_dirs: list[str], num_images: int | None, output: str) -> None:
    """Draw the learning rates of the runs that `cnnlab train OVERRIDES` would make, by step, to a PNG.

    Each value of a key that is given several gets a curve, and so does each rate where parts of a network have
    their own. `num_images` to train on are counted in the dataset if they are not given. Raises ConfigError for a
    schedule that nobody can know before the run.
    """
    if num_images is not None and num_images < 1:
        raise ConfigError(f"--examples {num_images}: expected at least one image to train on")
    target = check_output(output)
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for label, config in compose_sweep(overrides, config_dirs).items():
        name = config.schedule.name
        if reads_rows(config.schedule):
            raise ConfigError(
                f"schedule: {name} depends on what is measured during the run; plots/curves.png of a run shows its rate"
            )
        dataset = build_dataset(config)
        network = build_model(config, dataset.facts)
        optimizer = build_optimizer(config.optimizer, network, config.batch_size)
        num_examples = num_images or read_parts(config, dataset, torch.device("cpu"))["train"].num_examples
        schedule, num_steps = plan_schedule(config, num_examples)
        steps = [*range(0, num_steps, -(-num_steps // MAX_POINTS)), num_steps - 1]
        multipliers = [schedule(step) for step in steps]
        rates = sorted({group["lr"] for group in optimizer.param_groups}, reverse=True)
        for rate in rates:
            curve = f"{label or name}, lr {rate:g}" if len(rates) > 1 else label or name
            curves[curve] = (steps, [rate * multiplier for multiplier in multipliers])
            values = curves[curve][1]
            print(
                f"{curve}: {num_steps:,} steps with {num_examples:,} images, learning rate {values[0]:.3g} at first, "
                f"{max(values):.3g} at most, {values[-1]:.3g} at the end"
            )
    announce(target)
    draw_rates(curves, target)
    print(output)
