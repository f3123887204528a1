"""How long a command takes to begin: --help, and the first training step of the demo beside `import torch`.

Python's own ending, which takes its time with torch loaded, is left out of both.

    python -m tests.benchmarks.startup [--rounds N]

Each is a fresh process; they take turns, and what counts is the ratio.
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

# The demo, left through the back door right after its first step.
FIRST_STEP = """
import os
from cnnlab.engine import step
seed_step = step.seed_step
def seed_or_leave(*arguments):
    if arguments[-1] == 1:  # the number of the step that is about to be taken
        os._exit(0)
    seed_step(*arguments)
step.seed_step = seed_or_leave
from cnnlab.cli import main
main(["train"])
"""


def measure(*arguments: str) -> float:
    """Seconds that a fresh Python takes, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(CONF.parent)}
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    commands = {
        "import torch": ("-c", "import os, torch; os._exit(0)"),
        "demo, to its first step": ("-c", FIRST_STEP),
        "cnnlab --help": ("-m", "cnnlab.cli", "--help"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            taken = measure(*command)
            if number > 0:  # the first round fills the disk cache
                seconds[name].append(taken)
    print(f"{'a fresh process':26} {'seconds':>8} {'of import torch':>16}")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["import torch"], strict=True))
        print(f"{name:26} {statistics.median(times):8.2f} {ratio:16.2f}")


if __name__ == "__main__":
    main()
