"""What a machine can do at most: products of large square matrices, and copies of large tensors.

A network's convolutions are matrix products at best; how near it comes to this peak says what there is to gain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.engine.compute import DTYPES, Compute, Precision, explain_missing
from cnnlab.engine.timing import read_clock

SIZES = (512, 1024, 2048, 4096, 8192, 16384)  # rows and columns
GROWTH = 1.03  # from one size to the next; less, and the peak is reached
MAX_BYTES = 1 << 28  # of a tensor to copy: larger than any cache


def measure_product_peak(device: torch.device, precision: Precision, seconds: float = 1.0) -> float | None:
    """The most multiply-adds per second, in about `seconds`; None for a precision that the device does not have."""
    if explain_missing(precision, device):
        return None
    Compute(precision).forward_pass(device)  # for the numbers of products in float32; the factors have their own
    deadline = time.perf_counter() + seconds
    peak = 0.0
    for size in SIZES:
        factor = torch.full((size, size), 0.5, dtype=DTYPES[precision], device=device)
        before = peak
        product = factor @ factor  # warms up, and has the memory ready
        for _ in range(5):
            begin = read_clock(device)
            torch.mm(factor, factor, out=product)
            taken = read_clock(device) - begin
            peak = max(peak, size**3 / taken)
            if time.perf_counter() + taken > deadline:
                break
        next_takes = 2 * 8 * taken  # a size larger, and its warming up
        if peak < GROWTH * before or time.perf_counter() + next_takes > deadline:
            break
    return peak


def measure_speed(device: torch.device, precision: Precision, seconds: float = 0.1) -> float:
    """Multiply-adds a second of one middling product and one convolution, half of the time each: the geometric mean.

    Far from the peak where a device is large; to hold one precision against another that is enough.
    """
    Compute(precision).forward_pass(device)
    dtype = DTYPES[precision]
    size, num_images = (4096, 512) if device.type == "cuda" else (256, 4)
    factor = torch.full((size, size), 0.5, dtype=dtype, device=device)
    kernel = torch.full((64, 64, 3, 3), 0.5, dtype=dtype, device=device)
    images = torch.full((num_images, 64, 16, 16), 0.5, dtype=dtype, device=device)
    images, kernel = (each.contiguous(memory_format=torch.channels_last) for each in (images, kernel))

    def repeat(compute: Callable[[], Tensor], num_multiply_adds: int) -> float:
        compute()
        deadline, fastest = time.perf_counter() + seconds / 2, math.inf
        while True:
            begin = read_clock(device)
            compute()
            fastest = min(fastest, read_clock(device) - begin)
            if time.perf_counter() > deadline:
                return num_multiply_adds / fastest

    product = repeat(lambda: factor @ factor, size**3)
    convolution = repeat(lambda: F.conv2d(images, kernel, padding=1), num_images * 16 * 16 * 64 * 64 * 9)
    return math.sqrt(product * convolution)


def measure_bandwidth(device: torch.device, seconds: float = 0.5) -> float:
    """Bytes per second of a copy, those read and those written."""
    source = torch.zeros(MAX_BYTES // 4, device=device)
    target = torch.empty_like(source).copy_(source)
    fastest = float("inf")
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        begin = read_clock(device)
        target.copy_(source)
        fastest = min(fastest, read_clock(device) - begin)
    return 2 * MAX_BYTES / fastest
