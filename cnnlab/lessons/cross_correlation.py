"""What a convolution is: slide, multiply, add.

Stands on: school arithmetic.

To a computer a picture is a matrix of brightnesses, and nothing in it says where an edge or an eye is. To find
one, look at the picture a small piece at a time, and ask of each piece: how much does it look like what I
am searching for? The answer to that question, at every position, is a convolution.

What is searched for is a *kernel*, a small matrix of weights. Lay it on the top left corner of the image.
Multiply each pixel by the weight on top of it, add the products, and write the sum down; move one pixel to
the right and do it again, and so on, row by row:

    $Y[i, j] = Σ X[i + a, j + b] · K[a, b]$        over all $a < k_h$ and $b < k_w$

The kernel fits $h − k_h + 1$ times from top to bottom and $w − k_w + 1$ times from left to right, which is
the shape of the output. Each of its numbers says how well the pixels below the kernel agree with the
kernel: large where they do, small or negative where they do not.

Question: Is this the convolution of mathematics?
Answer: Not quite: that one turns the kernel by 180° first. What we compute is called
*cross-correlation*; deep learning says convolution all the same. As kernels are learned it makes no
difference: the turned one would be learned.

On real data: a network computes such sums for many kernels at once. In its rows Conv2d, the column
`multiply-adds` counts their products.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.errors import ConfigError
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_sliding
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
    if not (k.numel() > 0 and k.dim() == x.dim() == 2 and k.shape[0] <= x.shape[0] and k.shape[1] <= x.shape[1]):
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
    rows, columns = values["kernel"].shape
    draw_sliding(figure, values["image"], (rows, columns), values["output"], shown=4)


EXERCISES = [
    Exercise(
        "The same image, and the kernel 1 0 / 0 −1. What is the output's first number?",
        lambda: compute(kernel=((1, 0), (0, -1)))["output"][0, 0].item(),
        "Only two of the four products are not zero: write them down.",
        slips={4: "Mind the sign of the second product."},
    ),
    Exercise(
        "A 6×6 image and a 3×3 kernel: how many rows and columns does the output have?",
        lambda: tuple(corr2d(torch.zeros(6, 6), torch.zeros(3, 3)).shape),
        "Count the rows on which the kernel's top row can lie.",
        slips={(3, 3): "That is 6 − 3; the first position counts as well."},
    ),
    Exercise(
        "Which 2×2 kernel copies the image, without its last row and column? Its four numbers, row by row.",
        lambda: (1, 0, 0, 0),
        "Y[i, j] is to be X[i, j]: which of the four products has that pixel?",
    ),
]
