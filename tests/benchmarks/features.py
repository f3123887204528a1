"""What a frozen backbone costs: twenty epochs from kept features beside one bare pass over the images.

    python -m tests.benchmarks.features [--rounds N] [--threads N] [--root FOLDER --size 224]

The dog breeds' recipe: ResNet-34 with a head of 512→256→classes, batches of 128, random crops. Without --root (of a
folder with a sub-folder of pictures for each class) it looks at the embedded digits, at 64×64. The weights are
random: they cost as much as trained ones. Both ways include reading, and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time

import torch

from cnnlab.config import parse
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.dataset import read_parts
from cnnlab.runs.start import start
from tests.conftest import compose_tree

RECIPE = [
    *("model=torchvision", "model.arch=resnet34", "model.freeze=backbone", "model.head=[256]"),
    *("augment=flip_crop", "optimizer=sgd", "optimizer.lr=0.03", "optimizer.momentum=0.9", "batch_size=128"),
]


def train(overrides: list[str]) -> float:
    """Seconds of a whole run, its files included."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start(parse(compose_tree(*overrides, f"output_dir={folder}")), [])
    return time.perf_counter() - begin


def look_once(overrides: list[str]) -> float:
    """Seconds of a forward pass over all images: those to train on, to choose by and to test with."""
    begin = time.perf_counter()
    config = parse(compose_tree(*overrides))
    assembly = assemble(config)
    parts = read_parts(config, assembly.dataset, assembly.network.device)
    assembly.network.model.eval()
    with torch.inference_mode():
        for batches in parts.values():
            for number in range(len(batches)):
                assembly.network(batches.batch(0, number)[0])
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--root", help="pictures, a sub-folder for each class")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = ["dataset=image_folder", f"dataset.root={arguments.root}"] if arguments.root else ["dataset=digits"]
    overrides = [*RECIPE, *dataset, f"dataset.image_size={arguments.size}"]
    ways = {
        "one pass over the images": lambda: look_once(overrides),
        "20 epochs, one view kept": lambda: train([*overrides, "epochs=20", "model.feature_views=1"]),
        "1 epoch, nothing kept": lambda: train([*overrides, "epochs=1", "model.feature_views=0"]),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way, measure in ways.items():
            seconds[way].append(measure())
    print(f"{'':26} {'seconds':>8} {'of one pass':>12}")
    for way, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["one pass over the images"], strict=True))
        print(f"{way:26} {statistics.median(times):8.2f} {ratio:12.2f}")


if __name__ == "__main__":
    main()
