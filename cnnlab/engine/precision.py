"""In which numbers a network computes.

fp32   32 bits throughout, also where a device would rather round the factors of products on the way
tf32   products of numbers rounded to 10 bits of mantissa, sums in fp32; NVIDIA since compute capability 8
bf16   autocast: convolutions and matrix products in bfloat16, which has fp32's range and 7 bits of mantissa
fp16   autocast in float16: 10 bits of mantissa, but so little range that losses are scaled to keep gradients
       in it, and steps whose gradients overflow are left out (Micikevicius et al., arXiv:1710.03740)

Weights, the optimizer's state, losses and metrics are float32 in all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch.amp import GradScaler
from torch.optim import Optimizer

from cnnlab.engine.step import Pass

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def explain_missing(precision: str, device: torch.device) -> str | None:
    """What is wrong with a precision on a device; None if nothing is."""
    if precision == "tf32" and device.type != "cuda":
        return f"tf32 was given; expected fp32 or bf16: {device.type} has no such numbers, a CUDA device has"
    if precision == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        return "tf32 was given; expected fp32 or fp16: this CUDA device has no such numbers, those since 2020 have"
    if precision == "fp16" and device.type == "mps":
        return "fp16 was given; expected fp32 or bf16: scaling the loss is not possible on mps"
    return None


def list_precisions(device: torch.device) -> list[str]:
    """What is worth measuring on a device: fp32, and what its kernels may be faster with."""
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return ["fp32", "tf32", "bf16"] if ampere else ["fp32", "fp16"]
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ["fp32", "bf16"]  # torch has no float16 kernels for a processor's backward pass worth the name
    return ["fp32"]


def set_precision(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """What forward passes run in: a context for each. Sets how the device computes in float32 besides."""
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if precision in ("fp32", "tf32"):
        return nullcontext
    return partial(torch.autocast, device.type, dtype=DTYPES[precision])


def scaled_step(optimizer: Optimizer, scaler: GradScaler) -> Callable[[Pass], None]:
    """A step that is left out where a gradient overflowed; the scale follows.

    The gradients are there and unscaled. Optimizers that want the loss again have no such step.
    """

    def take_step(compute_gradients: Pass) -> None:
        scaler.step(optimizer)
        scaler.update()

    return take_step


def read_clock(device: torch.device) -> float:
    """Seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
