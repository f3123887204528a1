"""How long eight short trials take: Hydra's serial loop in one process, and cnnlab's trials beside each other.

    python -m tests.benchmarks.sweep [--rounds N] [--epochs N]

The two take turns, each a fresh process in an empty folder. A trial's overhead is what a sweep of eight trials of one
step takes more than one of a single such trial, by the seven trials and the workers that share them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from cnnlab.composition import CONF
from cnnlab.threads import num_cores

SEEDS = ",".join(map(str, range(8)))


def measure(*arguments: str) -> float:
    """Seconds of `cnnlab train -m ARGUMENTS`."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(CONF.parent)}
        command = [sys.executable, "-m", "cnnlab.cli", "train", "-m", *arguments]
        begin = time.perf_counter()
        subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parsed = parser.parse_args()
    epochs = f"epochs={parsed.epochs}"
    commands = {
        "Hydra's loop": (f"seed={SEEDS}", epochs, "hydra/sweeper=basic"),
        "cnnlab": (f"seed={SEEDS}", epochs),
        "eight trials of a step": (f"seed={SEEDS}", "steps=1"),
        "one trial of a step": ("seed=0", "steps=1"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(parsed.rounds):
        for name, arguments in commands.items():
            seconds[name].append(measure(*arguments))
    for name, taken in seconds.items():
        print(f"{name:24} {statistics.median(taken):6.2f} s")
    ratios = [ours / theirs for theirs, ours in zip(seconds["Hydra's loop"], seconds["cnnlab"], strict=True)]
    print(f"cnnlab takes {statistics.median(ratios):.2f} of the time of Hydra's loop")
    pairs = zip(seconds["eight trials of a step"], seconds["one trial of a step"], strict=True)
    overhead = statistics.median(eight - one for eight, one in pairs) / 7 * min(8, num_cores())
    print(f"a trial's overhead, its one step included: {overhead:.2f} s")


if __name__ == "__main__":
    main()
