"""Many channels: inputs are summed, outputs are stacked.

Stands on: cross_correlation.

A colour image is three matrices. The kernel has a matrix for each of them too; every channel is
cross-correlated with its own, and the results are added to *one* matrix. To get several output
channels, take several such kernels and stack what they give:

    $Y[o] = Σ X[c] ⋆ K[o, c]$        the sum over all channels c

X has the shape $(C_in, h, w)$ and K the shape $(C_out, C_in, k_h, k_w)$.

With a batch of images, padding and stride added, this is nn.Conv2d, except for dilation and groups. The
code's `conv2d` does it in plain torch: at every position it multiplies the window with all kernels at once.

Question: Which of a layer's numbers matters most?
Answer: The number of output channels: it is how many different things a layer can look for. The kernel
has to be as deep as the image, and its size is nearly always 3×3.

Question: Why add the input channels, and not stack them as well?
Answer: Because a feature is often a matter of several channels: orange is red and green without blue.
The sum lets a kernel ask for all of them at one pixel. Stacking without adding exists too: lesson `groups`.

On real data: three channels in, 64 out, then 64, 128, 256, 512.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix
from cnnlab.lessons.view import Figure, Parts, Values
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


def draw(values: Values, figure: Figure) -> None:
    figure.set_figheight(0.6 * figure.get_figwidth())
    axes = figure.subplots(2, 4)
    for channel in (0, 1):
        draw_matrix(axes[channel][0], values["image"][channel], f"channel {channel + 1}")
        draw_matrix(axes[channel][1], values["kernel"][channel], f"kernel {channel + 1}")
        draw_matrix(axes[channel][2], values["apart"][channel], "their ⋆")
    draw_matrix(axes[0][3], values["output"][0], "their sum")
    axes[1][3].set_axis_off()


EXERCISES = [
    Exercise(
        "Colour images (3 channels), 8 kernels of 5×5: which shape has K?",
        lambda: (8, 3, 5, 5),
        "(C_out, C_in, rows, columns).",
        slips={(3, 8, 5, 5): "The output channel stands first."},
    ),
    Exercise(
        "The same layer on a 3×32×32 image without padding: how many numbers come out?",
        lambda: F.conv2d(torch.zeros(1, 3, 32, 32), torch.zeros(8, 3, 5, 5)).numel(),
        "Eight matrices; how large is each?",
        slips={3 * 28 * 28: "Output channels, not input channels.", 24 * 28 * 28: "Input channels are summed."},
    ),
    Exercise(
        "On this page take kernel 2 twice as large: what is the first number of the sum?",
        lambda: (compute()["apart"][0] + 2 * compute()["apart"][1])[0, 0].item(),
        "Each channel has its own ⋆, and they are added.",
    ),
]
