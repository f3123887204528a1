"""What `auto` takes for each network, beside plain fp32 in contiguous memory: images a second of whole steps.

    python -m tests.benchmarks.precision [--models NAME ...] [--batch-size N] [--threads N] [--turns N]

Noise stands in for images; the ways take turns, and the fastest turn counts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch.nn import functional as F

from cnnlab.device import choose_device
from cnnlab.engine.autotune import TURN, Bench, list_ways, pick
from cnnlab.engine.compute import PLAIN, Compute
from cnnlab.engine.network import Network
from cnnlab.engine.step import Training
from cnnlab.models import MODELS
from cnnlab.optim import OPTIMIZERS
from cnnlab.optim.averages import PlainWeights
from cnnlab.optim.groups import build_optimizer
from cnnlab.optim.losses import Criterion
from cnnlab.optim.stepping import plain_step
from cnnlab.threads import keep_freed_memory
from tests.conftest import choose
from tests.models.pinned import PARAMETERS
from tests.models.test_models import build, facts_of

BASELINE = replace(PLAIN, memory_format="contiguous")


class Noise:
    """One batch, again and again."""

    def __init__(self, batch_size: int, channels: int, size: int, device: torch.device):
        generator = torch.Generator().manual_seed(0)
        self.num_examples = self.batch_size = batch_size
        images = torch.randn(batch_size, channels, size, size, generator=generator).to(device)
        self._images = images.contiguous(memory_format=torch.channels_last)  # as batches have them
        self._labels = torch.randint(0, 10, (batch_size,), generator=generator).to(device)

    def __len__(self) -> int:
        return 1

    def batch(self, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._images, self._labels


def make_training(name: str, batch_size: int, device: torch.device) -> Training:
    """A network of that name as it learns from noise."""
    facts = facts_of(name)
    torch.manual_seed(0)
    model = build(name).to(device)
    optimizer = build_optimizer(choose(OPTIMIZERS, "sgd", lr=0.01, momentum=0.9), model, batch_size)
    train = Noise(batch_size, facts["in_channels"], facts["image_size"], device)
    return Training(
        network=Network(model, device),
        criterion=Criterion(F.cross_entropy),
        optimizer=optimizer,
        plain_step=plain_step(optimizer),
        schedule=lambda step, rows: 1.0,
        average=PlainWeights(optimizer),
        train=train,
        valid=None,
        seed=0,
    )


def measure(name: str, batch_size: int, num_turns: int, device: torch.device) -> tuple[Compute, dict[Compute, float]]:
    """The way that is taken, and the seconds of a step of each way that is sound."""
    training = make_training(name, batch_size, device)
    bench = Bench(training, None)
    num_timed = max(1, round(TURN / bench.time_steps(PLAIN, 1)))
    seconds = bench.take_turns(list_ways(Compute(), training.network), num_timed, num_turns)
    return pick(seconds, PLAIN), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[name for name in MODELS if name in PARAMETERS])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(f"{'images/s':22} {'plain fp32':>10} {'auto':>10} {'faster by':>10}  way")
    for name in arguments.models:
        taken, seconds = measure(name, arguments.batch_size, arguments.turns, choose_device(arguments.device))
        if BASELINE not in seconds:  # of a thousand layers rounding alone turns the gradient elsewhere
            print(f"{name:22} plain fp32 is not close enough to itself in channels_last; {taken}", flush=True)
            continue
        plain, auto = (arguments.batch_size / seconds[way] for way in (BASELINE, taken))
        print(f"{name:22} {plain:10.1f} {auto:10.1f} {auto / plain:10.2f}  {taken}", flush=True)


if __name__ == "__main__":
    main()
