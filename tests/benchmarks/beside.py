"""Two runs at once, beside the same two one after the other: seconds of each, on digits, with `engine.threads=auto`.

    python -m tests.benchmarks.beside [--models NAME ...] [--batch-size N] [--steps N] [--threads auto|null|N]

Processes are timed from their start to their end. What is kept of earlier measuring is not used: the first of the two
that come one after the other measures alone, and each of the two at once beside the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cnnlab.threads import num_cores
from tests.benchmarks.environment import leave_as_found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=("mnist_cnn", "lenet"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", default="auto")
    arguments = parser.parse_args()
    print(f"{num_cores()} cores; {arguments.steps:,} steps of {arguments.batch_size} images")
    for name in arguments.models:
        chosen = [f"model={name}", f"batch_size={arguments.batch_size}", f"steps={arguments.steps}"]
        command = [*chosen, f"engine.threads={arguments.threads}"]
        with tempfile.TemporaryDirectory() as folder:
            in_turn = sum(time_runs(Path(folder, "in_turn"), command, 1)[0] for _ in range(2))
            at_once, threads = time_runs(Path(folder, "at_once"), command, 2)
        print(
            f"{name:12} in turn {in_turn:5.1f} s, at once {at_once:5.1f} s: {at_once / in_turn:.2f}; threads at once "
            + ", ".join("all" if number is None else str(number) for number in threads),
            flush=True,
        )


def time_runs(folder: Path, overrides: list[str], number: int) -> tuple[float, list[int | None]]:
    """Seconds until all of so many runs that begin together have ended, and the threads that each has taken."""
    command = [sys.executable, "-m", "cnnlab.cli", "train", "plots=off", *overrides]
    env = leave_as_found() | {"XDG_CACHE_HOME": str(folder / "cache")}
    outputs = Path(tempfile.mkdtemp(dir=folder.parent))
    begin = time.perf_counter()
    processes = [
        subprocess.Popen([*command, f"output_dir={outputs / str(index)}"], env=env, stdout=subprocess.DEVNULL)
        for index in range(number)
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"failed: {' '.join(command)}")
    seconds = time.perf_counter() - begin
    summaries = sorted(outputs.glob("*/*/*/summary.json"))
    return seconds, [json.loads(path.read_text())["compute"]["threads"] for path in summaries]


if __name__ == "__main__":
    main()
