"""Activations: six ways to bend a line, and what each does to a gradient.

    sigmoid      1 / (1 + e⁻ˣ)          into (0, 1)
    tanh         2·sigmoid(2x) − 1      into (−1, 1), centred on 0
    relu         max(0, x)
    leaky relu   x above 0, 0.01·x below
    PReLU        x above 0, a·x below; a is learned, and starts at 0.25
    RReLU        x above 0, a·x below; a is drawn from 1/8 to 1/3 in training, fixed later

What matters for training is the slope. A sigmoid's is at most 1/4 and almost 0 for large |x|: it
saturates, and layers before it stop learning. tanh reaches 1 at the centre and saturates too. ReLU has
1 above 0, however large x is, but 0 below: a unit that is negative for every image is dead. The last
three keep a small slope there.

Question: `nn.ReLU(out)` or `nn.ReLU()(out)`?
Answer: The second. `nn.ReLU` is a class; calling it builds a layer, and `nn.ReLU(out)` takes `out` for
its option `inplace` and returns a layer instead of numbers. The notes make this mistake. `out.relu()`
is the plain function.

On real data: sigmoids in LeNet, ReLUs in its successors.

    cnnlab train model=lenet dataset=fashion_mnist
    cnnlab train model=mnist_cnn dataset=fashion_mnist
"""

from __future__ import annotations

import torch
from torch import Tensor

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
        "Ten sigmoids in a row multiply a gradient by at most (1/4)¹⁰, which is less than a millionth.",
    ]


def draw(values: Values, figure: Figure) -> None:
    x = torch.linspace(-4, 4, 201, requires_grad=True)
    left, right = figure.subplots(1, 2)
    for name, activation in ACTIVATIONS.items():
        y = activation(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        left.plot(x.detach().numpy(), y.detach().numpy(), label=name)
        right.plot(x.detach().numpy(), slope.numpy(), label=name)
    left.set(title="value", ylim=(-1.5, 2.5))
    right.set(title="slope")
    left.legend()
