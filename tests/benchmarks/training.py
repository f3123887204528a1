"""mnist_cnn on 60,000 images, batch 64: cnnlab beside the usual way and beside a bare loop.

    python -m tests.benchmarks.training [--root FOLDER] [--rounds N] [--threads N]

FOLDER holds MNIST's IDX files; without it the same amount of noise is used, which takes the same time.
The ways take turns, round after round, each in a process of its own; what counts are the ratios.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.config import parse
from cnnlab.data.mnist import FILES
from cnnlab.engine.loop import Plan, fit
from cnnlab.engine.state import State
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.dataset import build_dataset
from cnnlab.experiment.network import build_model
from cnnlab.experiment.training import build_experiment
from cnnlab.stopping import StopRequest
from tests.benchmarks.environment import leave_as_found
from tests.conftest import compose_tree
from tests.data.files import write_idx

BATCH_SIZE, LR = 64, 0.01
MEAN, STD = 0.1307, 0.3081


def prepare_files(root: str | None, folder: Path) -> Path:
    """A root with the files where torchvision looks for them: linked from `root`, or noise."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, num in (("train", 60_000), ("test", 10_000)):
        images, labels = FILES[part]
        if root:
            for name in (images, labels):
                shutil.copy(Path(root, name), raw / name)
        else:
            write_idx(raw / images, torch.randint(0, 256, (num, 28, 28), dtype=torch.uint8))
            write_idx(raw / labels, torch.randint(0, 10, (num,), dtype=torch.uint8))
    return folder


class Network(nn.Module):
    """mnist_cnn as the notes write it: convolution, ReLU, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 3, padding=1)
        self.conv3 = nn.Conv2d(20, 20, 3, padding=1)
        self.linear1 = nn.Linear(180, 16)
        self.linear2 = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.linear2(self.linear1(x.flatten(1)))


def usual_epoch(root: Path, num_workers: int) -> None:
    """A dataset that transforms image by image, for a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    dataset = datasets.MNIST(str(root), train=True, transform=transform)
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    running_loss = 0.0
    for images, labels in DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=num_workers):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()


def bare_epoch(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, channels_last: bool) -> None:
    """Nothing but the arithmetic: a shuffled epoch over tensors, with the sums that a log needs.

    `pixels`: uint8 (N, 28, 28).
    """
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    total_loss, num_correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
    for chosen in torch.randperm(len(pixels)).split(BATCH_SIZE):
        images = pixels[chosen].unsqueeze(3 if channels_last else 1)
        images = images.permute(0, 3, 1, 2) if channels_last else images
        images = images.float().mul_(1 / (255 * STD)).sub_(MEAN / STD)
        targets = labels[chosen]
        outputs = model(images)
        loss = F.cross_entropy(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.detach() * len(targets)
        num_correct += (outputs.detach().argmax(1) == targets).sum()


class Silent:
    """A journal that keeps nothing."""

    def begin(self, *arguments: object) -> None: ...

    count_step = say = show_step = show_epoch = save_best = save_last = begin


def prepare_ways(root: Path, threads: int, timed: Timer) -> dict[str, Callable[[], None]]:
    """Each way as a function that trains an epoch; reading files is nobody's epoch."""
    overrides = ["experiment=mnist_cnn", f"dataset.root={root}", "epochs=1", "split.valid=0", "engine.device=cpu"]
    config = parse(compose_tree(*overrides, f"engine.threads={threads}"))

    def bare(make_network: Callable[[], nn.Module], channels_last: bool) -> None:
        images = build_dataset(config).read("train")
        timed.restart()
        bare_epoch(make_network(), images.store.tensor.squeeze(-1), images.labels, channels_last)

    def cnnlab() -> None:
        experiment = build_experiment(config, assemble(config))
        plan = Plan(len(experiment.training.train), 100, 10**9, "valid_accuracy")
        timed.restart()
        fit(experiment.training, plan, State(), Silent(), StopRequest())

    return {
        "usual, 0 workers": lambda: usual_epoch(root, 0),
        "usual, 2 workers": lambda: usual_epoch(root, 2),
        "bare loop": lambda: bare(Network, False),
        "bare loop, channels_last": lambda: bare(Network, True),
        "bare loop, cnnlab's network": lambda: bare(lambda: build_model(config, build_dataset(config).facts), True),
        "cnnlab": cnnlab,
    }


def measure_way(name: str, root: Path, threads: int) -> float:
    """Seconds of an epoch, once an epoch before it has warmed this process up."""
    torch.set_num_threads(threads)
    timed = Timer()
    way = prepare_ways(root, threads, timed)[name]
    for _ in range(2):
        timed.restart()
        way()
        seconds = timed.read()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with MNIST's four IDX files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", help=argparse.SUPPRESS)  # what a process of its own is asked for
    arguments = parser.parse_args()
    if arguments.way:
        print(measure_way(arguments.way, Path(arguments.root), arguments.threads))
        return
    seconds: dict[str, list[float]] = {name: [] for name in prepare_ways(Path(), arguments.threads, Timer())}
    with tempfile.TemporaryDirectory() as temporary:
        root = prepare_files(arguments.root, Path(temporary))
        command = [sys.executable, "-m", "tests.benchmarks.training", "--root", str(root)]
        for _ in range(arguments.rounds):
            for name, times in seconds.items():
                options = ["--threads", str(arguments.threads), "--way", name]
                environment = None if name == "cnnlab" else leave_as_found()
                done = subprocess.run([*command, *options], env=environment, check=True, capture_output=True, text=True)
                times.append(float(done.stdout))
    ours = seconds["cnnlab"]
    print(f"{'an epoch of 60,000 images':30} {'seconds':>8} {'cnnlab is faster by':>20}")
    for name, times in seconds.items():
        # Ratios within a round: the machine's mood drifts less than between rounds.
        ratio = statistics.median(other / own for other, own in zip(times, ours, strict=True))
        print(f"{name:30} {statistics.median(times):8.2f} {ratio:20.2f}")


class Timer:
    def restart(self) -> None:
        self.begin = time.perf_counter()

    def read(self) -> float:
        return time.perf_counter() - self.begin


if __name__ == "__main__":
    main()
