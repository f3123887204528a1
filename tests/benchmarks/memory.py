"""What 60,000 images cost in memory: a run on all of them beside one on 600, each a fresh process.

python -m tests.benchmarks.memory
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cnnlab.composition import CONF
from tests.data.files import write_mnist


def measure(folder: Path, num_images: int) -> float:
    """Peak memory in MB of twenty steps on that many images, read from .gz files."""
    write_mnist(folder, ".gz", num_train=num_images, num_test=100)
    overrides = ["dataset=mnist", f"dataset.root={folder}", "steps=20", "engine.eval_batch_size=50"]
    command = [sys.executable, "-m", "cnnlab.train", *overrides]
    env = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
    (summary,) = folder.glob("outputs/*/*/summary.json")
    return json.loads(summary.read_text())["peak_memory_mb"]["process"]


def main() -> None:
    sizes = (600, 60_000)
    with tempfile.TemporaryDirectory() as temporary:
        few, many = (measure(Path(temporary, str(size)), size) for size in sizes)
    data = (sizes[1] - sizes[0]) * 28 * 28 / 1e6
    print(f"peak with {sizes[0]:,} images {few:.0f} MB, with {sizes[1]:,} images {many:.0f} MB")
    print(f"{many - few:.0f} MB more, for {data:.0f} MB of images as uint8: {(many - few) / data:.2f} times")


if __name__ == "__main__":
    main()
