"""Two processes of one thread beside one process of two threads: images a second of the same training.

    python -m tests.benchmarks.distributed [KEY=VALUE ...]

In turns, the middle of each side's rounds. Overrides are those of `cnnlab train`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cnnlab.composition import CONF
from cnnlab.runs.directory import RunDirectory

ROUNDS = 3
EPOCHS = 3
WAYS = {
    "1 process, 2 threads": ([], 2),
    "2 processes, 1 thread each": (["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"], 1),
}


def measure(launcher: list[str], num_threads: int, overrides: list[str]) -> float:
    """Images a second of the last of some epochs, in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        given = [f"epochs={EPOCHS}", "engine.device=cpu", f"engine.threads={num_threads}", *overrides]
        command = [sys.executable, "-m", *launcher, "cnnlab.train", *given, f"output_dir={folder}"]
        environment = {**os.environ, "PYTHONPATH": str(CONF.parent)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        (metrics,) = Path(folder).glob("*/*/metrics.csv")
        return float(RunDirectory(metrics.parent).read_metrics()[-1]["images_per_second"])


def main(overrides: list[str]) -> None:
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, (launcher, num_threads) in WAYS.items():
            speeds[way].append(measure(launcher, num_threads, overrides))
    for way, measured in speeds.items():
        print(f"{way:28} {statistics.median(measured):10,.0f} images/s")


if __name__ == "__main__":
    main(sys.argv[1:])
