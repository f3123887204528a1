"""Cross-correlation: slide, multiply, add.

The kernel lies on the top left corner of the image. Multiply what lies on top of each other, add the
products, write the sum down; move one pixel to the right, and so on, row by row:

    Y[i, j] = Σ X[i + a, j + b] · K[a, b]        over a < k_h, b < k_w

It fits h − k_h + 1 times from top to bottom and w − k_w + 1 times from left to right, which is the
shape of the output.

Question: Is this the convolution of mathematics?
Answer: Not quite: that one turns the kernel by 180° first. Deep learning says convolution and computes
cross-correlation. As kernels are learned it makes no difference: the turned one would be learned.

On real data: one such sum for each kernel and position, thousands of times.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.pictures import draw_matrix
from cnnlab.lessons.view import Figure, Parts, Values


def corr2d(image: Tensor, kernel: Tensor) -> Tensor:
    """The cross-correlation of two matrices: (h, w), (k_h, k_w) → (h − k_h + 1, w − k_w + 1)."""
    rows, columns = kernel.shape
    sums = [
        [
            (image[i : i + rows, j : j + columns] * kernel).sum()
            for j in range(image.shape[1] - columns + 1)
        ]
        for i in range(image.shape[0] - rows + 1)
    ]
    return torch.stack([torch.stack(row) for row in sums])


def compute() -> Values:
    image = torch.arange(9.0).reshape(3, 3)
    kernel = torch.arange(4.0).reshape(2, 2)
    return {
        "image": image,
        "kernel": kernel,
        "output": corr2d(image, kernel),
        "turned": corr2d(image, kernel.flip(0, 1)),
    }


def show(values: Values) -> Parts:
    return [
        {name: values[name] for name in ("image", "kernel", "output")},
        "The four sums: 0·0 + 1·1 + 3·2 + 4·3 = 19, 1·0 + 2·1 + 4·2 + 5·3 = 25, 3·0 + 4·1 + 6·2 + 7·3 = 37, "
        "4·0 + 5·1 + 7·2 + 8·3 = 43.",
        {"with the kernel turned by 180°: the true convolution": values["turned"]},
    ]


def draw(values: Values, figure: Figure) -> None:
    for axes, name in zip(figure.subplots(1, 3), ("image", "kernel", "output"), strict=True):
        draw_matrix(axes, values[name], name)
