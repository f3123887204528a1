"""SGD with momentum: a ball that keeps rolling.

Stands on: regression.

In a narrow valley plain descent zigzags from wall to wall and creeps along the floor: a step that is
small enough for the steep direction is tiny for the flat one. Momentum keeps a velocity v and adds each
gradient to it:

    $v ← momentum · v + gradient$        $w ← w − lr · v$

Across the valley gradients alternate and cancel; along it they agree and add up, at most to
$1/(1 − momentum)$ times the plain step: tenfold for 0.9. Weight decay adds a pull to zero, weight_decay · w, to
the gradient. Below: the valley $f = ½(x² + 25·y²)$, from (5, 1).

Question: How large may lr be here?
Answer: At most $2/25 = 0.08$. Across the valley each plain step multiplies y by $1 − 25·lr$; above that
bound this is below −1, and y grows. Along it x shrinks only by $1 − lr$, at best 0.92. That one lr must serve both
is the whole trouble.

On real data: twenty epochs without momentum and with it; about 75 and 97 % of the test digits are right.

    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.01
    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.01 optimizer.momentum=0.9
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Fraction, Positive

STEEPNESS = torch.tensor([1.0, 25.0])


class SGD:
    """Stochastic gradient descent, with momentum and weight decay."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        self.params = list(params)
        self.velocities = [torch.zeros_like(p) for p in self.params]
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        for p, v in zip(self.params, self.velocities, strict=True):
            v.mul_(self.momentum).add_(p.grad + self.weight_decay * p)
            p -= self.lr * v


def valley(w: Tensor) -> Tensor:
    """½(x² + 25·y²), lowest at the origin: (..., 2) → (...)."""
    return (STEEPNESS * w.square()).sum(dim=-1) / 2


def descend(optimizer: SGD, w: Tensor, steps: int) -> Tensor:
    """The path of w down the valley: (steps + 1, 2)."""
    path = [w.detach().clone()]
    for _ in range(steps):
        w.grad = None
        valley(w).backward()
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


def compute(*, lr: Positive = 0.06, momentum: Fraction = 0.6, steps: Count = 40) -> Values:
    paths = {}
    for name, amount in (("plain", 0.0), ("momentum", momentum)):
        w = torch.tensor([5.0, 1.0], requires_grad=True)
        paths[name] = descend(SGD([w], lr, amount), w, steps)
    return paths


def show(values: Values) -> Parts:
    steps = len(values["plain"]) - 1
    chosen = sorted({0, min(1, steps), min(2, steps), steps // 4, steps // 2, steps})
    rows = [[step, *(valley(path[step]).item() for path in values.values())] for step in chosen]
    return [Table(["step", *(f"f, {name}" for name in values)], rows)]


def draw(values: Values, figure: Figure) -> None:
    draw_valley(figure, values)


def draw_valley(figure: Figure, paths: dict[str, Tensor]) -> None:
    """Lines of equal height, and each path down."""
    axes = figure.subplots()
    y, x = torch.meshgrid(torch.linspace(-1.2, 1.2, 80), torch.linspace(-2, 6, 80), indexing="ij")
    height = valley(torch.stack([x, y], dim=-1))
    axes.contour(x.numpy(), y.numpy(), height.numpy(), levels=12, colors="lightgray", linewidths=0.8)
    for name, path in paths.items():
        axes.plot(path[:, 0].numpy(), path[:, 1].numpy(), marker=".", label=name)
    axes.set(xlabel="x", ylabel="y")
    axes.legend()


def _decayed() -> float:
    w = torch.tensor([2.0])
    w.grad = torch.zeros(1)
    SGD([w], lr=0.5, weight_decay=0.1).step()
    return w.item()


EXERCISES = [
    Exercise(
        "momentum 0.9, a gradient of 1 in every step: towards which v does the velocity grow?",
        lambda: 1 / (1 - 0.9),
        "It stands still where v = 0.9·v + 1.",
    ),
    Exercise(
        "Plain descent in the valley with lr=0.06: by which factor is y multiplied in each step?",
        lambda: 1 - 25 * 0.06,
        "1 − 25·lr.",
    ),
    Exercise(
        "A weight of 2 with gradient 0, weight_decay 0.1 and lr 0.5, no momentum: the weight after one step?",
        _decayed,
        "Weight decay adds weight_decay·w to the gradient.",
    ),
]
