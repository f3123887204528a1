"""Single 3×3 convolutions by Winograd's filtering beside torch's: milliseconds, forward and backward, and their ratio.

    python -m tests.benchmarks.convolutions [--batch-size N] [--threads N] [--turns N]

In fp32 and channels_last, on the CPU. The two take turns, and the fastest turn counts. "expected" is by how much
`cnnlab/winograd.py` takes it to be faster, from 1.2 on it is used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.threads import keep_freed_memory
from cnnlab.winograd import convolve, expect_gain

LAYERS = [  # channels in, channels out, pixels of a side
    *((64, 64, 32), (64, 64, 15), (128, 128, 16), (256, 256, 8), (512, 512, 4), (512, 512, 2)),  # small images
    *((64, 256, 14), (256, 256, 7), (256, 256, 6), (256, 256, 3)),  # of whitened_cnn
    *((64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7)),  # of a ResNet for photographs
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(f"{'layer':>16} {'direct':>9} {'Winograd':>9} {'faster by':>10} {'expected':>9}")
    for num_inputs, num_outputs, size in LAYERS:
        images = torch.randn(arguments.batch_size, num_inputs, size, size)
        images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(num_outputs, num_inputs, 3, 3).contiguous(memory_format=torch.channels_last)
        weight.requires_grad_()
        gradient = torch.randn(arguments.batch_size, num_outputs, size, size)
        gradient = gradient.contiguous(memory_format=torch.channels_last)

        def learn(function: Callable[..., Tensor], images=images, weight=weight, gradient=gradient) -> float:  # type: ignore[no-untyped-def]
            begin = time.perf_counter()
            torch.autograd.grad(function(images, weight, padding=(1, 1)), (images, weight), gradient)
            return 1000 * (time.perf_counter() - begin)

        ways = (F.conv2d, convolve)
        turns = [[learn(way) for way in ways] for _ in range(1 + arguments.turns)][1:]
        direct, filtered = (min(times) for times in zip(*turns, strict=True))
        layer = f"{num_inputs}→{num_outputs} {size}×{size}"
        expected = expect_gain(weight, arguments.batch_size, size, size)
        print(f"{layer:>16} {direct:9.1f} {filtered:9.1f} {direct / filtered:10.2f} {expected:9.2f}", flush=True)


if __name__ == "__main__":
    main()
