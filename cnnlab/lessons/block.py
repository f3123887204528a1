"""A block of your own: what a module has to provide.

Stands on: layers, activations.

Everything in torch that takes inputs and has parameters is a module: a layer, a block of layers, a
whole network. To write one, say two things:

    `__init__`   which parts it has; assigning a module to self registers its parameters
    `forward`    how the output follows from the input

The gradient comes for free, because autograd watches what `forward` does. Parameters are initialised by
the layers, and `state_dict`, `to` and `train` reach all of them by themselves.

Question: The notes define `_forward` in one program and `__forward__` in another. What happens?
Answer: Calling a module calls `forward`, by exactly that name. With any other name the class is defined
without complaint, and its first call fails with the message above. In the same programs F is used and
never imported, and `nn.ReLU(out)` builds a layer where relu(out) was meant.

Question: Another page of the notes defines `init`, calls `super().init()` and tests `if name == "main"`.
Answer: There the web page has eaten the underscores: it must be `__init__`, `__name__` and `"__main__"`.
A class with `init` in place of `__init__` can be built, but it has no layers: nothing calls `init`.

On real data: such a block with images as its input.

    cnnlab train model=mlp dataset=digits
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.diagrams import draw_network
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


class Perceptron(nn.Module):
    """Linear, ReLU, linear: (N, features) → (N, outputs)."""

    def __init__(self, features: int, hidden: int, outputs: int):
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x).relu())


class Misspelt(nn.Module):
    def _forward(self, x: Tensor) -> Tensor:
        return x


def compute(*, features: Count = 20, hidden: Count = 256, outputs: Count = 10) -> Values:
    with seeded(0):
        block = Perceptron(features, hidden, outputs)
        x = torch.randn(2, features)
    y = block(x)
    y.sum().backward()
    try:
        Misspelt()(x)
        complaint = "nothing"
    except NotImplementedError as error:
        complaint = str(error)
    return {
        "input": tuple(x.shape),
        "output": tuple(y.shape),
        "parameters": {name: tuple(p.shape) for name, p in block.named_parameters()},
        "count": sum(p.numel() for p in block.parameters()),
        "all_have_gradients": all(p.grad is not None for p in block.parameters()),
        "complaint": complaint,
    }


def show(values: Values) -> Parts:
    return [
        f"{values['input']} goes in, {values['output']} comes out.",
        Table(["parameter", "shape"], [[name, str(shape)] for name, shape in values["parameters"].items()]),
        f"{values['count']:,} numbers, and after one backward pass "
        f"{'each' if values['all_have_gradients'] else 'not each'} has its gradient.",
        f"A module with `_forward` instead of `forward` says: {values['complaint']}",
    ]


def draw(values: Values, figure: Figure) -> None:
    features, outputs = values["input"][1], values["output"][1]
    hidden = values["parameters"]["hidden.bias"][0]
    draw_network(figure, Perceptron(features, hidden, outputs), torch.zeros(1, features))


class _Unbuilt(nn.Module):
    def init(self) -> None:
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)


EXERCISES = [
    Exercise(
        "Perceptron(4, 8, 3): how many numbers are its parameters, all together?",
        lambda: sum(p.numel() for p in Perceptron(4, 8, 3).parameters()),
        "Two weights and two biases.",
        slips={56: "That is without the biases."},
    ),
    Exercise(
        "A module makes its two layers in init (without underscores). How many parameters has an object of it?",
        lambda: len(list(_Unbuilt().parameters())),
        "Does anything call a method of that name?",
    ),
]
