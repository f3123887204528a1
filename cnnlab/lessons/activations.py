"""Activations: six ways to bend a line, and what each does to a gradient.

Stands on: stacked_linear.

    sigmoid      $1 / (1 + e⁻ˣ)$          into (0, 1)
    tanh         $2·sigmoid(2x) − 1$      into (−1, 1), centred on 0
    relu         $max(0, x)$              x above 0, and 0 below
    leaky relu   $max(x, 0.01·x)$         the slope below is a choice; the notes have 0.001
    PReLU        $max(x, a·x)$            a is learned, and starts at 0.25
    RReLU        $max(x, a·x)$            a is drawn from 1/8 to 1/3 in training, fixed later

What matters for training is the slope. A sigmoid's is at most 1/4 and almost 0 for large |x|: it
saturates, and layers before it stop learning. tanh reaches 1 at the centre and saturates too. ReLU has
1 above 0, however large x is, but 0 below: a unit that is negative for every image is dead. The last
three keep a small slope there.

Question: `nn.ReLU(out)` or `nn.ReLU()(out)`?
Answer: The second. `nn.ReLU` is a class; calling it builds a layer, and `nn.ReLU(out)` takes `out` for
its option `inplace` and returns a layer instead of numbers. The notes make this mistake. `out.relu()`
is the plain function. Applied to the notes' four numbers 1, 2, −1, −1 it gives 1, 2, 0, 0.

On real data: sigmoids in LeNet, ReLUs in mnist_cnn.

    cnnlab train model=lenet dataset=fashion_mnist
    cnnlab train model=mnist_cnn dataset=fashion_mnist
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import highlight_each
from cnnlab.lessons.view import Figure, Parts, Table, Values


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def tanh(x: Tensor) -> Tensor:
    return 2 * sigmoid(2 * x) - 1


def relu(x: Tensor) -> Tensor:
    return x * (x > 0)


def leaky_relu(x: Tensor, slope: float | Tensor = 0.01) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def prelu(x: Tensor, slope: float = 0.25) -> Tensor:
    return leaky_relu(x, slope)


def rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3) -> Tensor:
    """As in evaluation; in training the slope is drawn anew for every number."""
    return leaky_relu(x, (lower + upper) / 2)


ACTIVATIONS = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky relu": leaky_relu,
    "PReLU": prelu,
    "RReLU": rrelu,
}


def compute(*, x: tuple[float, ...] = (-4.0, -1.0, 0.0, 1.0, 4.0)) -> Values:
    points = torch.tensor(x, dtype=torch.float32).requires_grad_()
    values, slopes = {}, {}
    for name, activation in ACTIVATIONS.items():
        y = activation(points)
        values[name] = y.detach()
        (slopes[name],) = torch.autograd.grad(y.sum(), points)
    return {"x": points.detach(), "values": values, "slopes": slopes}


def show(values: Values) -> Parts:
    header = [f"x = {x:g}" for x in values["x"]]
    return [
        Table(["value at", *header], [[name, *y.tolist()] for name, y in values["values"].items()]),
        Table(["slope at", *header], [[name, *y.tolist()] for name, y in values["slopes"].items()]),
        "Ten sigmoids in a row multiply a gradient by at most $(1/4)¹⁰$, which is less than a millionth.",
    ]


def draw(values: Values, figure: Figure) -> None:
    x = torch.linspace(-4, 4, 201)
    curves = {name: (x.numpy(), activation(x).numpy()) for name, activation in ACTIVATIONS.items()}
    highlight_each(figure, curves, in_a_row=3, ylim=(-1.6, 2.6))


EXERCISES = [
    Exercise(
        "Three sigmoids in a row: by how much at most do they multiply a gradient? (a fraction such as 1/2 will do)",
        lambda: 0.25**3,
        "Each has a slope of at most 1/4.",
        slips={0.75: "Slopes in a row multiply."},
    ),
    Exercise(
        "leaky relu of −3, with the slope 0.01?",
        lambda: leaky_relu(torch.tensor(-3.0)).item(),
        "Below 0 it is 0.01·x.",
        slips={0: "That is the plain relu."},
    ),
    Exercise(
        "At x = 0, how many times steeper is tanh than the sigmoid?",
        lambda: 4,
        "Their slopes there are in the second table.",
    ),
]
