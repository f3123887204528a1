"""What `auto` costs and takes for ten networks: seconds of measuring, the choice, and the best fixed choice.

    python -m tests.benchmarks.auto [--models NAME ...] [--batch-size N] [--steps N]

Noise stands in for images. `--steps` is the length of the run that auto is asked for; the best fixed choice is the
fastest of all ways, measured at leisure. What is kept of earlier measuring is not used.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import torch

from cnnlab.device import choose_device, name_device
from cnnlab.engine.autotune import TURN, Bench, list_ways, tune
from cnnlab.engine.compute import PLAIN, Compute
from cnnlab.threads import keep_freed_memory, num_cores
from tests.benchmarks.precision import make_training

NETWORKS = ("mnist_cnn", "lenet", "two_conv", "inception_net", "whitened_cnn", "resnet20", "resnet18_cifar",
            "mobilenet_v2", "shufflenet_v2_x1_0", "densenet40_k12")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=NETWORKS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5000)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(num_cores())
    device = choose_device("auto")
    print(f"{name_device(device)}, {torch.get_num_threads()} threads; runs of {arguments.steps:,} steps")
    wanted = Compute().uncompiled()
    for name in arguments.models:
        training = make_training(name, arguments.batch_size, device)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            begin = time.perf_counter()
            chosen = tune(training, wanted, arguments.steps).compute
            seconds = time.perf_counter() - begin
        bench = Bench(training, None)
        step = bench.time_steps(PLAIN, 1)
        fastest = bench.take_turns(list_ways(wanted, training.network), max(1, round(TURN / step)), 3)
        best = min(fastest, key=fastest.__getitem__)
        lost = fastest.get(chosen, fastest[PLAIN]) / fastest[best] - 1
        share = seconds / (arguments.steps * step)
        print(
            f"{name:20} auto {seconds:6.1f} s, {share:6.2%} of the run: {chosen}; best {best}, {lost:.0%} faster",
            flush=True,
        )


if __name__ == "__main__":
    main()
