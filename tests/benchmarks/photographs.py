"""An epoch of augmented photographs without a network: cnnlab's packed pictures beside torchvision and a DataLoader.

    python -m tests.benchmarks.photographs [--images N] [--rounds N] [--batch-size N] [--root FOLDER]

RandomResizedCrop to 224, flip, ColorJitter of 0.4, normalisation. The photographs are made: JPEG of quality 90,
500×400 pixels, about 63 kB each, noise of five sizes of grain (see `write_photographs`); or FOLDER has them, a
sub-folder for each class. The ways take turns, round after round, each in a process of its own; what counts are the
ratios. A packed epoch is the mean of the second to the fourth; packing is measured by itself, into an empty folder.
"As JPEG" is dataset.pack=jpeg, a quarter of the disk.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from cnnlab.config import parse
from cnnlab.data import AUGMENTS
from cnnlab.data.batches import Batches
from cnnlab.device import start_device
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.threads import num_cores
from tests.benchmarks.environment import leave_as_found
from tests.conftest import compose_tree
from tests.data.files import write_photographs

SIZE, RESIZE, JITTER = 224, 256, 0.4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTERED = "color_jitter" in AUGMENTS  # otherwise neither way changes colours


def usual_epoch(root: Path, batch_size: int, num_workers: int) -> float:
    """Seconds of a dataset that decodes and transforms picture by picture, for a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    jitter = [transforms.ColorJitter(JITTER, JITTER, JITTER)] if JITTERED else []
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            *jitter,
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    dataset = datasets.ImageFolder(str(root), transform)
    begin = time.perf_counter()
    for _ in DataLoader(dataset, batch_size, shuffle=True, num_workers=num_workers):
        pass
    return time.perf_counter() - begin


def prepare_packed(root: Path, batch_size: int, cache: Path, pack: str) -> Callable[[], Batches]:
    """What reads the training batches, packed into `cache` if they are not there yet."""
    tree = compose_tree("dataset=image_folder", "augment=resized_crop", "split.valid=0", "split.test=0")
    tree["dataset"] |= {"root": str(root), "image_size": SIZE, "resize": RESIZE, "cache": str(cache), "pack": pack}
    if JITTERED:
        tree["augment"]["color_jitter"] = {"brightness": JITTER, "contrast": JITTER, "saturation": JITTER}
    config = parse({**tree, "batch_size": batch_size})
    dataset = build_dataset(config)
    # ImageNet's, as the other way has them: computing one's own is no part of an epoch.
    dataset = replace(dataset, facts=replace(dataset.facts, mean=MEAN, std=STD))
    device = start_device(config.engine.device, config.engine.threads)
    return lambda: read_parts(config, dataset, device)["train"]


def packing(root: Path, batch_size: int, cache: Path, pack: str) -> float:
    """Seconds from the first file that is opened on; reading the configuration, as imports, is on nobody's clock."""
    with tempfile.TemporaryDirectory(dir=cache) as empty:
        read = prepare_packed(root, batch_size, Path(empty), pack)
        begin = time.perf_counter()
        read()
        return time.perf_counter() - begin


def packed_epoch(root: Path, batch_size: int, cache: Path, pack: str) -> float:
    train = prepare_packed(root, batch_size, cache, pack)()
    marks = []
    for epoch in range(4):
        for number in range(len(train)):
            train.batch(epoch, number)
        marks.append(time.perf_counter())
    return (marks[-1] - marks[0]) / 3


def prepare_ways(root: Path, batch_size: int, cache: Path) -> dict[str, Callable[[], float]]:
    return {
        "torchvision, 0 workers": lambda: usual_epoch(root, batch_size, 0),
        "torchvision, 2 workers": lambda: usual_epoch(root, batch_size, 2),
        "packing, once": lambda: packing(root, batch_size, cache, "raw"),
        "packed epoch": lambda: packed_epoch(root, batch_size, cache, "raw"),
        "packing as JPEG, once": lambda: packing(root, batch_size, cache, "jpeg"),
        "epoch packed as JPEG": lambda: packed_epoch(root, batch_size, cache, "jpeg"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--root", help="photographs of your own, a sub-folder for each class")
    parser.add_argument("--cache", help=argparse.SUPPRESS)  # what a process of its own is given and asked for
    parser.add_argument("--way", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        torch.set_num_threads(num_cores())
        ways = prepare_ways(Path(arguments.root), arguments.batch_size, Path(arguments.cache))
        print(ways[arguments.way]())
        return
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(arguments.root or Path(temporary, "photographs")), Path(temporary, "cache")
        if not arguments.root:
            write_photographs(root, arguments.images, width=500, height=400)
        cache.mkdir()
        num_images = sum(1 for path in root.glob("*/*") if path.is_file())
        command = [sys.executable, "-m", "tests.benchmarks.photographs", "--root", str(root), "--cache", str(cache)]
        command += ["--batch-size", str(arguments.batch_size), "--way"]
        seconds: dict[str, list[float]] = {name: [] for name in prepare_ways(root, arguments.batch_size, cache)}
        for _ in range(arguments.rounds):
            for name, times in seconds.items():
                environment = leave_as_found() if "torchvision" in name else None
                done = subprocess.run([*command, name], env=environment, check=True, stdout=subprocess.PIPE, text=True)
                times.append(float(done.stdout))
    best = min((name for name in seconds if "workers" in name), key=lambda name: statistics.median(seconds[name]))
    print(f"{num_images:,} photographs, colours {'jittered' if JITTERED else 'left alone'}; beside {best}:")
    for name, times in seconds.items():
        # Ratios within a round: the machine's mood drifts less than between rounds.
        ratio = statistics.median(usual / own for usual, own in zip(seconds[best], times, strict=True))
        median = statistics.median(times)
        print(f"{name:24} {median:6.2f} s {num_images / median:8,.0f} images/s {ratio:6.2f} times as fast")


if __name__ == "__main__":
    main()
