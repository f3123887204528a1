"""Predicting a folder of 32×32 PNGs and writing a submission: cnnlab beside ImageFolder and a DataLoader.

    python -m tests.benchmarks.prediction [--images N] [--rounds N]

The network is mnist_cnn, so small that the way of the images to it is what counts. Each way is a process of its own;
they take turns, and what counts are the ratios. Peak memory is that of the process and its workers together; of
cnnlab for N and for 2N images. (Linux.)
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.predict import predict
from cnnlab.runs.start import start
from cnnlab.runs.trained import load_trained
from tests.benchmarks.environment import leave_as_found
from tests.conftest import small_config
from tests.data.kaggle import write_kaggle_cifar10

WAYS = {"ImageFolder, 0 workers": 0, "ImageFolder, 2 workers": 2, "cnnlab": None}
BATCH_SIZE = 500


def prepare(folder: Path, num_images: int) -> Path:
    """A tree as Kaggle's with `num_images` pictures to predict, and a run on its few training images."""
    data, usual = folder / "data", folder / "usual" / "unknown"  # an ImageFolder wants a sub-folder
    write_kaggle_cifar10(data, num_test=0)
    (data / "sampleSubmission.csv").unlink()
    (data / "test").mkdir()
    usual.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(1, num_images + 1):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))  # as smooth as a photograph
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(data / "test" / f"{number}.png")
        os.link(data / "test" / f"{number}.png", usual / f"{number}.png")
    overrides = ["dataset=kaggle_cifar10", f"dataset.root={data}", "split.test=0", "steps=1"]
    return start(small_config(folder / "runs", *overrides, "dataset.image_size=32"), []).path


def predict_usually(run: Path, num_workers: int) -> None:
    """A dataset that decodes and transforms image by image, for a DataLoader; the classes as a table."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    trained = load_trained(RunDirectory(run))
    folder = run.parents[2] / "usual"
    normalize = transforms.Normalize(trained.facts.mean, trained.facts.std)
    pictures = ImageFolder(str(folder), transforms.Compose([transforms.ToTensor(), normalize]))
    labels = []
    with torch.inference_mode():
        for images, _ in DataLoader(pictures, BATCH_SIZE, num_workers=num_workers):
            labels += trained.network(images).softmax(1).argmax(1).tolist()
    ids = [int(Path(path).stem) for path, _ in pictures.samples]
    with (run / "usual.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label"))
        rows = [(name, trained.facts.classes[label]) for name, label in zip(ids, labels, strict=True)]
        writer.writerows(sorted(rows))


def measure(name: str, run: Path) -> float:
    """Seconds from the call until the tables are written."""
    num_workers = WAYS[name]
    if num_workers is not None:
        import torchvision  # noqa: F401  (not on the clock)
    begin = time.perf_counter()
    if num_workers is None:
        predict([str(run)])
    else:
        predict_usually(run, num_workers)
    return time.perf_counter() - begin


def measure_apart(name: str, run: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MB, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.prediction", "--way", name, "--run", str(run)]
    environment = os.environ if WAYS[name] is None else leave_as_found()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(read_memory, [process.pid, *list_children(process.pid)])))
        time.sleep(0.2)
    assert process.returncode == 0 and process.stdout is not None
    return float(process.stdout.read().splitlines()[-1]), peak


def list_children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def read_memory(process: int) -> float:
    """A process's share of memory in MB: of a page that n processes have in common, an n-th."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", help=argparse.SUPPRESS)  # what a process of its own is asked for
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(measure(arguments.way, arguments.run))
        return
    with tempfile.TemporaryDirectory() as temporary:
        run = prepare(Path(temporary, "N"), arguments.images)
        rounds = [{name: measure_apart(name, run) for name in WAYS} for _ in range(arguments.rounds)]
        twice = measure_apart("cnnlab", prepare(Path(temporary, "2N"), 2 * arguments.images))
    print(f"{f'{arguments.images:,} images':24} {'images/s':>9} {'peak MB':>8} {'cnnlab is faster by':>20}")
    for name in WAYS:
        seconds = statistics.median(taken[name][0] for taken in rounds)
        memory = max(taken[name][1] for taken in rounds)
        ratio = statistics.median(taken[name][0] / taken["cnnlab"][0] for taken in rounds)
        print(f"{name:24} {arguments.images / seconds:9,.0f} {memory:8.0f} {ratio:20.2f}")
    seconds, memory = twice
    print(f"{'cnnlab, twice as many':24} {2 * arguments.images / seconds:9,.0f} {memory:8.0f}")


if __name__ == "__main__":
    main()
