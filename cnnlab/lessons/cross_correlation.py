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

from cnnlab.errors import ConfigError
from cnnlab.lessons.pictures import draw_matrix
from cnnlab.lessons.view import Figure, Parts, Values, shape

Matrix = tuple[tuple[float, ...], ...]


def corr2d(image: Tensor, kernel: Tensor) -> Tensor:
    """The cross-correlation of two matrices: (h, w), (k_h, k_w) → (h − k_h + 1, w − k_w + 1)."""
    rows, columns = kernel.shape
    sums = [
        [(image[i : i + rows, j : j + columns] * kernel).sum() for j in range(image.shape[1] - columns + 1)]
        for i in range(image.shape[0] - rows + 1)
    ]
    return torch.stack([torch.stack(row) for row in sums])


def compute(
    *,
    image: Matrix = ((0, 1, 2), (3, 4, 5), (6, 7, 8)),
    kernel: Matrix = ((0, 1), (2, 3)),
) -> Values:
    x, k = torch.tensor(image, dtype=torch.float32), torch.tensor(kernel, dtype=torch.float32)
    fits = k.numel() > 0 and k.dim() == x.dim() == 2 and k.shape[0] <= x.shape[0] and k.shape[1] <= x.shape[1]
    if not fits:
        raise ConfigError(
            f"kernel: {shape(k.shape)} was given; expected two sizes of at least 1, "
            f"and at most the image's {shape(x.shape)}"
        )
    return {
        "image": x,
        "kernel": k,
        "output": corr2d(x, k),
        "turned": corr2d(x, k.flip(0, 1)),
    }


def show(values: Values) -> Parts:
    rows, columns = values["kernel"].shape
    pairs = zip(values["image"][:rows, :columns].flatten(), values["kernel"].flatten(), strict=True)
    products = " + ".join(f"{pixel:g}·{weight:g}" for pixel, weight in pairs)
    return [
        {name: values[name] for name in ("image", "kernel", "output")},
        f"The first sum, top left: {products} = {values['output'][0, 0]:g}.",
        {"with the kernel turned by 180°: the true convolution": values["turned"]},
    ]


def draw(values: Values, figure: Figure) -> None:
    for axes, name in zip(figure.subplots(1, 3), ("image", "kernel", "output"), strict=True):
        draw_matrix(axes, values[name], name)
