"""Code inside forward, and numbers that are not learned.

Stands on: block.

`forward` is ordinary Python: it may loop and branch on the data, and autograd records what really
happened for these inputs. It may also use numbers that belong to the network and are never trained,
*constant parameters*. `register_buffer` keeps such a tensor: it moves with the module and is saved with
it, and no optimizer ever sees it.

The block here sends its input through a learned layer, then through a fixed random matrix, and halves
the result until its norm is at most 1.

Question: How can a loop be differentiated?
Answer: It is not. Only the steps that were taken are: for one input two halvings, for another six. Each
is a product with ½, and the chain rule does the rest. The number of rounds has no gradient.

On real data: the running means of batch normalisation are such buffers, saved and never trained (lesson
`batch_norm`). They are why the line `weights` under memory is "with buffers", and more than 4 bytes a
parameter.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Positive


class FixedMixture(nn.Module):
    """A learned layer, a constant matrix, and halving down to norm 1."""

    mixture: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.learned = nn.Linear(features, features)
        self.register_buffer("mixture", torch.randn(features, features))
        self.halvings = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.learned(x) @ self.mixture
        self.halvings = 0
        while x.norm() > 1:
            x = x / 2
            self.halvings += 1
        return x


def compute(*, scale: Positive = 1.0) -> Values:
    with seeded(0):
        block = FixedMixture(4)
        x = torch.randn(1, 4)
    rows = []
    for factor in (scale, 10 * scale, 100 * scale):
        output = block(factor * x)
        rows.append([factor, block.halvings, output.norm().item()])
    output.sum().backward()
    return {
        "rows": rows,
        "trained": [name for name, _ in block.named_parameters()],
        "saved": list(block.state_dict()),
        "mixture_has_gradient": block.mixture.grad is not None,
        "learned_has_gradient": block.learned.weight.grad is not None,
    }


def show(values: Values) -> Parts:
    return [
        Table(["input times", "halvings", "norm of the output"], values["rows"]),
        Table(
            ["", "tensors"],
            [["trained", ", ".join(values["trained"])], ["saved", ", ".join(values["saved"])]],
        ),
    ]


EXERCISES = [
    Exercise(
        "A buffer and a parameter: which of the two does optimizer.step() change? One word.",
        lambda: "parameter",
        "Which has a gradient?",
    ),
    Exercise(
        "A vector of norm 12 is halved until its norm is at most 1: how many times?",
        lambda: next(n for n in range(10) if 12 / 2**n <= 1),
        "12, 6, 3: go on.",
    ),
    Exercise(
        "x is halved twice on its way. By which factor is its gradient multiplied there?",
        lambda: 0.25,
        "Each halving is a product with ½, and the chain rule multiplies.",
    ),
]
