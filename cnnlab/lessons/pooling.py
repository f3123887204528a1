"""Pooling in full: maximum or average, any window, padding and stride, channel by channel.

Stands on: max_pool, shapes.

Pooling is a cross-correlation whose weighted sum has been replaced by a maximum or a mean. Its window
need not be square, and like a kernel's it has padding and stride, for rows and columns apart:

    $output size = (n + 2p − k) / s + 1$,  the quotient rounded down

Two conventions differ from a convolution's. The stride, if none is given, is the window's own size, so
that windows do not overlap. And each channel is pooled by itself: as many come out as went in.

Question: What is the padding filled with?
Answer: For a maximum with −∞, so that the frame never wins, even if all pixels are negative. For an
average with zeros that count as pixels: at a border the mean is drawn towards 0.

On real data: LeNet averages, its successors take the maximum.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.errors import ConfigError
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.view import Figure, Parts, Values, shape
from cnnlab.signature import Count, Whole

Pair = tuple[int, int]  # rows, columns


def pool2d(images: Tensor, mode: str, window: Pair, padding: Pair = (0, 0), stride: Pair | None = None) -> Tensor:
    """Pool each channel of each image: (N, C, h, w) → (N, C, rows, columns)."""
    (k_h, k_w), (s_h, s_w) = window, stride or window
    frame = (padding[1], padding[1], padding[0], padding[0])
    images = F.pad(images, frame, value=float("-inf") if mode == "max" else 0.0)
    rows = range(0, images.shape[2] - k_h + 1, s_h)
    columns = range(0, images.shape[3] - k_w + 1, s_w)

    def pool(i: int, j: int) -> Tensor:
        pixels = images[:, :, i : i + k_h, j : j + k_w].flatten(start_dim=2)
        return pixels.max(dim=2).values if mode == "max" else pixels.mean(dim=2)

    return torch.stack([torch.stack([pool(i, j) for j in columns], dim=-1) for i in rows], dim=-2)


def compute(
    *,
    mode: Literal["max", "average"] = "max",
    window: tuple[Count, Count] = (2, 3),
    padding: tuple[Whole, Whole] = (0, 1),
    stride: tuple[Count, Count] = (2, 1),
) -> Values:
    if any(2 * frame > size for frame, size in zip(padding, window, strict=True)):
        raise ConfigError(
            f"padding: {list(padding)} was given; expected at most half of window={list(window)}, "
            "for a window that lies in the frame alone has nothing to pool"
        )
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    image = torch.cat([image, image + 1], dim=1)  # (1, 2, 4, 4)
    return {
        "image": image[0],
        "usual": pool2d(image, mode, (3, 3))[0],
        "overlapping": pool2d(image, mode, (3, 3), padding=(1, 1), stride=(2, 2))[0],
        "chosen": pool2d(image, mode, window, padding, stride)[0],
        "window": window,
        "padding": padding,
        "stride": stride,
        "mode": mode,
    }


def show(values: Values) -> Parts:
    choice = ", ".join(f"{key} {shape(values[key])}" for key in ("window", "padding", "stride"))
    return [
        {"channel 1": values["image"][0], "channel 2": values["image"][1]},
        f"The {values['mode']} of 3×3 windows: the stride is 3, and one position fits.",
        {"channel 1": values["usual"][0], "channel 2": values["usual"][1]},
        "3×3 windows, padding 1, stride 2:",
        {"channel 1": values["overlapping"][0], "channel 2": values["overlapping"][1]},
        f"Your choice, {choice}:",
        {"channel 1": values["chosen"][0], "channel 2": values["chosen"][1]},
    ]


def draw(values: Values, figure: Figure) -> None:
    left, middle, right = panels(figure, 3)
    draw_matrix(left, values["image"][0], "channel 1")
    draw_matrix(middle, values["overlapping"][0], "3×3, padding 1, stride 2")
    draw_matrix(right, values["chosen"][0], "your choice")


EXERCISES = [
    Exercise(
        "Windows of 2×3 on a 6×6 image, no padding, no stride given: which shape comes out?",
        lambda: tuple(pool2d(torch.zeros(1, 1, 6, 6), "max", (2, 3)).shape[2:]),
        "Without a stride, windows stand side by side.",
        slips={(5, 4): "That is stride 1; without one given the stride is the window's own size."},
    ),
    Exercise(
        "Average pooling, 2×2, padding 1: the window at the corner holds one pixel, 8. Its mean?",
        lambda: pool2d(torch.full((1, 1, 2, 2), 8.0), "average", (2, 2), padding=(1, 1))[0, 0, 0, 0].item(),
        "The zeros of the frame count as pixels.",
        slips={8: "That would leave the frame out."},
    ),
    Exercise(
        "The same with the maximum, and a pixel of −8?",
        lambda: pool2d(torch.full((1, 1, 2, 2), -8.0), "max", (2, 2), padding=(1, 1))[0, 0, 0, 0].item(),
        "What is the frame filled with before a maximum?",
        slips={0: "Then the frame would win against every negative pixel."},
    ),
]
