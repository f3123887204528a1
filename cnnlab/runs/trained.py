"""A trained network and what it was trained for, from its run directory alone: the images may be far away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnlab.config import Config
from cnnlab.data import Dataset, ImageSet
from cnnlab.data.batches import Batches
from cnnlab.data.chunks import Framing
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.choice import plain_choice, recall
from cnnlab.engine.precision import set_precision
from cnnlab.errors import ConfigError
from cnnlab.experiment import build_model, read_config, start_device, without_weights
from cnnlab.runs.directory import RunDirectory
from cnnlab.runtime import worker_threads

FACTS = ("task", "classes", "channels", "image_size", "resize", "mean", "std")  # of a Dataset, kept in dataset.json

# A core takes so many values of images at a time, of large images at least so many. Cores that share out a batch wait
# for each other; with images of their own they do not, and how many cores there are changes no answer.
VALUES_AT_ONCE, LEAST_AT_ONCE = 3 << 17, 32


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, on its device, and how pictures are made ready for it."""

    run: RunDirectory
    config: Config
    dataset: Dataset  # its facts; it has no images
    weights: Path
    model: nn.Module
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext  # the precision that it computes in

    @property
    def framing(self) -> Framing:
        return Framing(self.dataset.image_size, self.dataset.resize or self.dataset.image_size)

    def identify(self) -> str:
        """A digest of the weights, other for any other weights."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    def map_views(self, pixels: Tensor, mirrored: bool, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """`function` of the network's outputs for uint8 images (N, H, W, C), and for their mirror images if wanted.

        Each is float64 (N, ...) on the CPU; images are normalised as in an evaluation.
        """

        def look(some: Tensor) -> list[Tensor]:
            images = ImageSet(some.to(self.device), torch.zeros(len(some), dtype=torch.long, device=self.device))
            channels_last = self.config.engine.memory_format == "channels_last"
            mean, std = self.dataset.mean, self.dataset.std
            indices = torch.arange(len(some))
            batch, _ = Batches(images, indices, len(some), mean, std, channels_last=channels_last).batch(0, 0)
            views = [batch, batch.flip(3)] if mirrored else [batch]
            with torch.inference_mode(), self.autocast():
                return [function(self.model(view).cpu().double()) for view in views]

        size, num_threads = self.config.engine.eval_batch_size, 1
        if self.device.type == "cpu":
            size = max(VALUES_AT_ONCE // pixels[0].numel(), LEAST_AT_ONCE)
            num_threads = torch.get_num_threads()
        pieces = pixels.split(size)
        answers = list(map(look, pieces) if num_threads == 1 else worker_threads(num_threads).map(look, pieces))
        return [torch.cat(view) for view in zip(*answers, strict=True)]


def write_facts(run: RunDirectory, dataset: Dataset) -> None:
    run.write_json(run.dataset, {name: getattr(dataset, name) for name in FACTS})


def read_facts(run: RunDirectory) -> Dataset:
    """What a run's network was trained for. Raises ConfigError if the run did not get so far as to write it down."""
    facts = run.read_json(run.dataset)
    if not facts:
        raise ConfigError(f"{run}: has no {run.dataset.name}; it was not trained yet: cnnlab resume {run}")
    facts = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return Dataset(parts=(), read=_read_nothing, **facts)


def load_network(run: RunDirectory) -> Trained:
    """The network of a run with the weights that were chosen. Raises ConfigError, or CheckpointError."""
    config = repeat_choice(read_config(run.read_config()), run)
    weights = run.find_weights()
    dataset = read_facts(run)
    device = start_device(config)
    model = build_model(without_weights(config), dataset).to(device)
    model.load_state_dict(load_checkpoint(weights, device)["model"])
    return Trained(run, config, dataset, weights, model.eval(), device, set_precision(config.engine.precision, device))


def repeat_choice(config: Config, run: RunDirectory) -> Config:
    """The configuration of a run with what "auto" became there; the network is not compiled for one look."""
    chosen = run.read_json(run.summary).get("engine") or {}
    choice = plain_choice(recall(asdict(config.engine), chosen))
    return replace(config, engine=replace(config.engine, **asdict(replace(choice, compile="off"))))


def _read_nothing(part: str) -> ImageSet:
    raise AssertionError(f"'{part}' was asked for; only the facts of this dataset are known")
