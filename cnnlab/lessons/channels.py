"""Many channels: inputs are summed, outputs are stacked.

A colour image is three matrices. The kernel has a matrix for each of them too; every channel is
cross-correlated with its own, and the results are added to *one* matrix. To get several output
channels, take several such kernels and stack what they give:

    Y[o] = Σ X[c] ⋆ K[o, c]        X: (C_in, h, w), K: (C_out, C_in, k_h, k_w)

With images in a batch, padding and stride, that is nn.Conv2d but for dilation and groups. The code's
`conv2d` does it in plain torch: at every position it multiplies the window with all kernels at once.

Question: Why add the input channels, and not stack them as well?
Answer: Because a feature is often a matter of several channels: orange is red and green without blue.
The sum lets a kernel ask for all of them in one place. Stacking without adding exists too and is called
depthwise convolution (MobileNet, Howard et al. 2017, arXiv:1704.04861).

On real data: three channels in, 64 out, then 64, 128, 256, 512.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.view import Parts, Values
from cnnlab.signature import Count


def corr2d_multi_in(image: Tensor, kernel: Tensor) -> Tensor:
    """Channel by channel, summed: (C, h, w), (C, k_h, k_w) → (h − k_h + 1, w − k_w + 1)."""
    return torch.stack([corr2d(x, k) for x, k in zip(image, kernel, strict=True)]).sum(dim=0)


def corr2d_multi_in_out(image: Tensor, kernels: Tensor) -> Tensor:
    """Kernel by kernel, stacked: (C_in, h, w), (C_out, C_in, k_h, k_w) → (C_out, ...)."""
    return torch.stack([corr2d_multi_in(image, kernel) for kernel in kernels])


def conv2d(images: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0, stride: int = 1) -> Tensor:
    """What F.conv2d computes: (N, C_in, h, w), (C_out, C_in, k_h, k_w) → (N, C_out, rows, columns)."""
    images = F.pad(images, (padding, padding, padding, padding))
    k_h, k_w = weight.shape[2:]
    output = torch.stack(
        [
            torch.stack(
                [
                    torch.einsum("nchw,ochw->no", images[:, :, i : i + k_h, j : j + k_w], weight)
                    for j in range(0, images.shape[3] - k_w + 1, stride)
                ],
                dim=-1,
            )
            for i in range(0, images.shape[2] - k_h + 1, stride)
        ],
        dim=-2,
    )
    return output if bias is None else output + bias[:, None, None]


def compute(*, out_channels: Count = 3) -> Values:
    image = torch.stack([torch.arange(9.0).reshape(3, 3), torch.arange(1.0, 10).reshape(3, 3)])
    kernel = torch.stack([torch.arange(4.0).reshape(2, 2), torch.arange(1.0, 5).reshape(2, 2)])
    kernels = torch.stack([kernel + o for o in range(out_channels)])
    return {
        "image": image,
        "kernel": kernel,
        "apart": torch.stack([corr2d(x, k) for x, k in zip(image, kernel, strict=True)]),
        "output": corr2d_multi_in_out(image, kernels),
        "batched": conv2d(image[None], kernels)[0],
    }


def show(values: Values) -> Parts:
    first, second = values["apart"]
    return [
        {"channel 1": values["image"][0], "kernel 1": values["kernel"][0], "their ⋆": first},
        {"channel 2": values["image"][1], "kernel 2": values["kernel"][1], "their ⋆": second},
        {"the sum: one output channel": values["output"][0]},
        "Further output channels take the same kernels, each entry larger by one:",
        {f"output {o + 1}": matrix for o, matrix in enumerate(values["output"])},
    ]
