"""A convolution layer of your own: corr2d with a weight to learn, and a bias.

Stands on: cross_correlation, layers.

The cross-correlation is a function; a layer is that function together with its parameters. Little is
missing: declare weight and bias, and add the bias to what `corr2d` returns. The gradient with respect
to the kernel comes from autograd, through the loops of `corr2d`, and it is itself a cross-correlation:
of the image with the gradient of the output.

Question: The notes' layer fails with `name 'Kernel_size' is not defined`.
Answer: Its argument is `kernel_size`. Python tells small letters from capitals, and a name is looked up
only when the line runs: the class can be written, and building the first layer fails.

Question: If it is that simple, why use nn.Conv2d?
Answer: For speed, and for channels, padding and strides. The loops here visit each position from
Python, about a hundred positions a millisecond; torch hands the whole layer to one routine. Numbers and
gradients are the same.

On real data: two convolution layers and a linear one, trained in seconds.

    cnnlab train model=two_conv dataset=digits
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Range, Whole

Size = Annotated[int, Range(at_least=1, at_most=5)]  # of a kernel that fits a 5×5 image


class Conv2D(nn.Module):
    """One channel in, one out: (h, w) → (h − k_h + 1, w − k_w + 1)."""

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(rows, columns))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return corr2d(image, self.weight) + self.bias


def compute(*, rows: Size = 2, columns: Size = 2, seed: Whole = 0) -> Values:
    with seeded(seed):
        layer = Conv2D(rows, columns)
        image = torch.randn(5, 5)
    output = layer(image)
    output.sum().backward()
    return {
        "image": image,
        "weight": layer.weight.detach(),
        "output": output.detach(),
        "weight_gradient": layer.weight.grad,
        "bias_gradient": layer.bias.grad.item(),
    }


def show(values: Values) -> Parts:
    positions = values["output"].numel()
    return [
        {name: values[name] for name in ("image", "weight", "output")},
        {"gradient of the output's sum, for the weight": values["weight_gradient"]},
        f"For the bias it is {values['bias_gradient']:g}: the bias enters each of the {positions} outputs once.",
    ]


def draw(values: Values, figure: Figure) -> None:
    names = {"image": "image", "weight": "weight", "output": "output", "weight_gradient": "the weight's gradient"}
    for axes, (name, title) in zip(panels(figure, 4, in_a_row=2, narrow=2, height=2.0), names.items(), strict=True):
        draw_matrix(axes, values[name], title)


def _gradient_on_ones() -> float:
    layer = Conv2D(2, 2)
    layer(torch.ones(5, 5)).sum().backward()
    return layer.weight.grad[0, 0].item()


EXERCISES = [
    Exercise(
        "A 3×3 layer on a 5×5 image: what is the gradient of the output's sum for the bias?",
        lambda: compute(rows=3, columns=3)["bias_gradient"],
        "How many outputs are there?",
    ),
    Exercise(
        "The image is all ones, 5×5, the kernel 2×2: what is the gradient of the output's sum for each weight?",
        _gradient_on_ones,
        "Each weight meets one pixel at each position.",
    ),
]
