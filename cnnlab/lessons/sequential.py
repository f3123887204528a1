"""A Sequential of your own: blocks in a row, in five lines.

Stands on: block.

Two things make it: a way to append blocks so that their parameters are found, and a `forward` that
hands each block's output to the next. `add_module(name, module)` does the first. A plain Python list
would hold the blocks as well, but torch does not look into lists: the optimizer would get nothing.

Question: When do I write a block, when a Sequential?
Answer: A Sequential, as long as data flows straight down. A block of your own as soon as it branches,
adds, loops or takes two inputs: an inception block, a residual block.

On real data: LeNet is one Sequential from its first layer to its last.

    cnnlab inspect model=lenet dataset=fashion_mnist
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.diagrams import draw_network
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Whole


class Row(nn.Module):
    """Modules called one after the other."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        for index, module in enumerate(modules):
            self.add_module(str(index), module)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x


class ListRow(nn.Module):
    """The same with a plain list, which hides the parameters."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.row = list(modules)


def compute(*, seed: Whole = 0) -> Values:
    with seeded(seed):
        layers = [nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 10)]
        x = torch.randn(2, 20)
    own, theirs, hidden = Row(*layers), nn.Sequential(*layers), ListRow(*layers)
    return {
        "own": own(x),
        "theirs": theirs(x),
        "names": [name for name, _ in own.named_parameters()],
        "names_in_list": [name for name, _ in hidden.named_parameters()],
    }


def show(values: Values) -> Parts:
    return [
        {"own": values["own"][:, :5], "nn.Sequential": values["theirs"][:, :5]},
        "Two rows of input, the first five of ten outputs; the two are equal to the last bit, "
        "for they are the same layers.",
        Table(
            ["blocks kept in", "parameters found"],
            [
                ["add_module", ", ".join(values["names"])],
                ["a list", ", ".join(values["names_in_list"]) or "none"],
            ],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    draw_network(figure, Row(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 10)), torch.zeros(1, 20))


def _three_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))


EXERCISES = [
    Exercise(
        "Sequential(Linear, ReLU, Linear, ReLU, Linear): what is the last weight's name in named_parameters()?",
        lambda: [name for name, _ in _three_layers().named_parameters()][-2],
        "The number of the module, a point, and weight.",
        slips={"2.weight": "The ReLUs are modules and are counted.", "5.weight": "Modules count from 0."},
    ),
    Exercise(
        "How many tensors does its optimizer get?",
        lambda: len(list(_three_layers().parameters())),
        "Each Linear has two; a ReLU has none.",
    ),
    Exercise(
        "Which class of torch.nn is a list that torch does look into? Its name.",
        lambda: nn.ModuleList.__name__.lower(),
        "Module and list.",
    ),
]
