"""How a network computes: in which numbers and memory format, by which convolutions, compiled or not.

fp32   32 bits throughout, also where a device would rather round the factors of products on the way
tf32   products of numbers rounded to 10 bits of mantissa, sums in fp32; NVIDIA since compute capability 8
bf16   autocast: convolutions and matrix products in bfloat16, which has fp32's range and 7 bits of mantissa
fp16   autocast in float16: 10 bits of mantissa, but so little range that losses are scaled to keep gradients
       in it, and steps whose gradients overflow are left out (Micikevicius et al., arXiv:1710.03740)

Weights, the optimizer's state, losses and metrics are float32 in all of them.

On a CPU, 3×3 convolutions in fp32 may be computed by Winograd's filtering, with fewer products: see `winograd.py`.
On a CPU, also by how many threads: the sums that they divide come out in other last digits, so that their number
belongs to the way. One is best for small networks and beside other work, where threads wait for each other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnlab.graphs import RecordedCalls
from cnnlab.signature import Count
from cnnlab.winograd import WinogradConvolutions

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]
Compile = Literal["auto", "off", "graphs", "default", "reduce-overhead", "max-autotune"]
Convolution = Literal["auto", "direct", "winograd"]
Threads = Literal["auto"] | Count | None  # None: as many as torch takes anyway

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Compute:
    """A way to compute; "auto" is what is not decided yet."""

    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    compile: Compile = "auto"
    threads: Threads = "auto"
    convolution: Convolution = "auto"

    def __str__(self) -> str:
        compiled = {"off": "", "graphs": ", CUDA graphs"}.get(self.compile, f", compiled ({self.compile})")
        convolution = ", Winograd" if self.convolution == "winograd" else ""
        threads = "" if self.threads is None else f", threads: {self.threads}"
        return f"{self.precision}, {self.memory_format}{convolution}{compiled}{threads}"

    def fill(self, decided: Compute) -> Compute:
        """This way, and what is `decided` where it is open; convolutions as they go with the rest of it."""
        filled = Compute(**{k: getattr(decided, k) if value == "auto" else value for k, value in asdict(self).items()})
        if self.convolution == "auto" and filled.convolution == "winograd" and not filled.can_filter:
            return replace(filled, convolution="direct")
        return filled

    @property
    def can_filter(self) -> bool:
        """Whether Winograd's filtering goes with the rest of it."""
        return (self.precision, self.memory_format, self.compile) == ("fp32", "channels_last", "off")

    def uncompiled(self) -> Compute:
        return replace(self, compile="off")

    @classmethod
    def from_dict(cls, stored: Any) -> Compute:
        """What summary.json tells of a run; all open where it tells nothing."""
        if not isinstance(stored, dict) or not stored:
            return cls()
        known = {"convolution": "direct", **stored}  # of a run before there were others
        return cls(**{key: known[key] for key in asdict(cls()) if key in known})

    # --- What a forward pass asks -------------------------------------------------------------------

    def arrange(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), which come in channels_last memory, in this format; features (N, F) as they are."""
        return images.contiguous() if self.memory_format == "contiguous" else images

    def forward_pass(self, device: torch.device) -> AbstractContextManager[Any]:
        """What a forward pass runs in. Sets how the device computes in float32, in the backward pass after it too."""
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        if self.convolution == "winograd":
            return WinogradConvolutions()
        if self.precision in ("fp32", "tf32"):
            return nullcontext()
        return torch.autocast(device.type, dtype=DTYPES[self.precision])

    def prepare(self, model: nn.Module) -> None:
        """Put the weights into this memory format, in place, and let the model's calls be compiled or not.

        Compiling begins with the first call; names in the state_dict stay. Sets this process's threads.
        """
        if isinstance(self.threads, int):
            torch.set_num_threads(self.threads)
        model.to(memory_format=FORMATS[self.memory_format])
        model._compiled_call_impl = None
        if self.compile == "graphs":
            model._compiled_call_impl = RecordedCalls(model)
        elif self.compile != "off":
            # Recorded CUDA graphs are what reduce-overhead is for; the others keep to buffers that nothing overwrites.
            mode = "max-autotune-no-cudagraphs" if self.compile == "max-autotune" else self.compile
            model.compile(mode=mode, dynamic=False)  # kernels for any size of batch are slower than no compiling


PLAIN = Compute("fp32", "channels_last", "off", None, "direct")


def explain_missing(precision: Precision, device: torch.device) -> str | None:
    """What is wrong with a precision on a device; None if nothing is."""
    if precision == "tf32" and device.type != "cuda":
        return f"tf32 was given; expected fp32 or bf16: {device.type} has no such numbers, a CUDA device has"
    if precision == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        return "tf32 was given; expected fp32 or fp16: this CUDA device has no such numbers, those since 2020 have"
    if precision == "fp16" and device.type == "mps":
        return "fp16 was given; expected fp32 or bf16: scaling the loss is not possible on mps"
    return None


def list_precisions(device: torch.device) -> list[Precision]:
    """What is worth measuring on a device: fp32, and what its kernels may be faster with."""
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return ["fp32", "tf32", "bf16"] if ampere else ["fp32", "fp16"]
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ["fp32", "bf16"]  # torch has no float16 kernels for a CPU's backward pass worth the name
    return ["fp32"]
