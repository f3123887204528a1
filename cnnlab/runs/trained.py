"""A trained network and what it was trained for, from its run directory: what evaluates, predicts and is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from cnnlab.config import Config
from cnnlab.data import Dataset, Facts, ImageSet
from cnnlab.data.batches import Batches
from cnnlab.data.chunks import Framing
from cnnlab.data.normalise import Normalise
from cnnlab.device import start_device
from cnnlab.engine.checkpoint import load_checkpoint, put_weights, require_run
from cnnlab.engine.compute import PLAIN
from cnnlab.engine.network import Network
from cnnlab.engine.views import Views, average_outputs, make_views
from cnnlab.errors import ConfigError
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.experiment.network import build_network
from cnnlab.models.shapes import require_size
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.saved import read_saved
from cnnlab.signature import OneOf, keyword_arguments, read_arguments
from cnnlab.tasks import TASKS
from cnnlab.threads import worker_threads

# A core takes so many values of images at a time, of large images at least so many. Cores that share out a batch wait
# for each other; with images of their own they do not, and how many cores there are changes no prediction.
VALUES_AT_ONCE, LEAST_AT_ONCE = 3 << 17, 32


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, on its device, and how pictures are made ready for it."""

    run: RunDirectory
    config: Config
    facts: Facts
    weights: Path
    network: Network
    temperature: float = 1.0  # that outputs are divided by
    weight: float = 1.0  # among others that predict together

    @property
    def framing(self) -> Framing:
        return Framing(self.facts.image_size, self.facts.shorter_side)

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that it was trained on. Raises DataError if that is not there any more."""
        return build_dataset(self.config)

    def read_parts(self, device: torch.device | None = None) -> dict[str, Batches]:
        """The images that it was trained, validated and tested on, on its device or another.

        Raises DataError, or ConfigError where they are of another size now, which the network does not take.
        """
        size = self.dataset.facts.image_size
        if size != self.facts.image_size:
            require_size(self.network.model, self.facts.channels, size)
        return read_parts(self.config, self.dataset, device or self.network.device)

    def identify(self) -> str:
        """A digest of the weights, other for any other weights."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    def compute_outputs(self, batches: Batches, views: Views = "none") -> Tensor:
        """The network's outputs for each of these images in their order, the mean over their `views`.

        Float64 (N, outputs), on the CPU.
        """
        source = batches.in_order()
        with torch.inference_mode():
            images = (source.batch(0, number)[0] for number in range(len(source)))
            found = [average_outputs(self.network, some, views).cpu().double() for some in images]
        return torch.cat(found).clone()  # no inference tensor: it may be learned from

    def map_views(self, pixels: Tensor, views: Views, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """`function` of the network's outputs for each view of uint8 images (N, H, W, C).

        Each is float64 (N, ...) on the CPU; images are normalised as in an evaluation.
        """
        device, normalise = self.network.device, Normalise(self.facts.mean, self.facts.std)

        def predict(some: Tensor) -> list[Tensor]:
            images = ImageSet.of(some.to(device), torch.zeros(len(some), dtype=torch.long, device=device))
            batch, _ = Batches(images, torch.arange(len(some)), len(some), normalise).batch(0, 0)
            with torch.inference_mode():
                outputs = [self.network(view).cpu().double() for view in make_views(batch, views)]
                return [function(each / self.temperature) for each in outputs]

        size, num_threads = self.config.engine.eval_batch_size, 1
        if device.type == "cpu":
            size = max(VALUES_AT_ONCE // pixels[0].numel(), LEAST_AT_ONCE)
            num_threads = torch.get_num_threads()
        pieces = pixels.split(size)
        found = list(map(predict, pieces) if num_threads == 1 else worker_threads(num_threads).map(predict, pieces))
        return [torch.cat(view) for view in zip(*found, strict=True)]


def write_facts(run: RunDirectory, facts: Facts, fingerprints: Mapping[str, str]) -> None:
    """dataset.json: what a run's network is trained for, and by what its images are known again."""
    run.write_json(run.dataset, {**asdict(facts), "task": facts.task.name, "fingerprints": fingerprints})


def read_facts(run: RunDirectory) -> Facts:
    """What a run's network was trained for.

    Raises ConfigError if the run did not get so far as to write it down, or the file was changed.
    """
    stored = run.read_json(run.dataset)
    if not stored:
        raise ConfigError(f"{run}: has no {run.dataset.name}; it was not trained yet: cnnlab resume {run}")
    stored.pop("fingerprints", None)
    parameters = {**keyword_arguments(Facts)}
    parameters["task"] = parameters["task"].replace(annotation=Annotated[str, OneOf(tuple(TASKS))])
    facts, problems = read_arguments("", stored, parameters)
    if problems:
        raise ConfigError([f"{run.dataset}: {problem}" for problem in problems])
    return Facts(**{**facts, "task": TASKS[facts["task"]]})


def find_changed(run: RunDirectory, fingerprints: Mapping[str, str]) -> list[str]:
    """The parts of the dataset that are not what a run began with; none if that was not written down."""
    known = run.read_json(run.dataset).get("fingerprints")
    if not isinstance(known, dict):
        return []
    return [part for part in sorted({*known, *fingerprints}) if known.get(part) != fingerprints.get(part)]


def load_trained(run: RunDirectory, checkpoint: str = "best", overrides: Sequence[str] = ()) -> Trained:
    """The network of a run with the weights that were chosen, or the "last", computing as it did there.

    `overrides` are changes to its configuration, such as where its dataset lies now. Raises ConfigError, or
    CheckpointError.
    """
    config = read_saved(run, overrides)
    weights, facts = run.find_weights(checkpoint), read_facts(run)
    device = start_device(config.engine.device, config.engine.threads, config.engine.deterministic)
    network = build_network(config, facts, device, trained=True)
    contents = load_checkpoint(weights, device)
    require_run(weights, contents, run.read_id())
    put_weights(network.model, weights, contents)
    network.model.eval()
    compute = config.compute.fill(run.read_compute()).fill(PLAIN)
    return Trained(run, config, facts, weights, network.computed_as(compute.uncompiled()))  # for one pass
