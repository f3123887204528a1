"""Adam: each weight with a step of its own.

Stands on: momentum.

Adam keeps two running averages for every single weight, of its gradient g and of g²:

    $m ← β₁·m + (1 − β₁)·g$        $v ← β₂·v + (1 − β₂)·g²$        $w ← w − lr · m̂ / (√v̂ + ε)$

The quotient forgets how large gradients are and keeps how consistent they are: where they agree, a step
is about lr; where they alternate, m is near 0 and so is the step. A steep and a flat direction are
walked at the same pace. Both averages start at 0 and are too small at first; $m̂ = m/(1 − β₁ᵗ)$ and
$v̂ = v/(1 − β₂ᵗ)$ undo that (Kingma & Ba 2014, arXiv:1412.6980).

Question: How long is the very first step?
Answer: lr, in each coordinate, whatever the gradient: m̂ = g and v̂ = g², and g/|g| is ±1. Here the
gradient is 5 in one direction and 25 in the other, and both coordinates move by the same 0.1.

On real data: compare the two on the same network.

    cnnlab train model=lenet dataset=fashion_mnist optimizer=adam
    cnnlab train experiment=lenet_fashion
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.momentum import draw_valley, valley
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Fraction, Positive


class Adam:
    """Adam with its paper's constants."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ):
        self.params = list(params)
        self.means = [torch.zeros_like(p) for p in self.params]
        self.squares = [torch.zeros_like(p) for p in self.params]
        self.lr, self.beta1, self.beta2, self.epsilon = lr, beta1, beta2, epsilon
        self.t = 0

    @torch.no_grad()
    def step(self) -> None:
        self.t += 1
        for p, m, v in zip(self.params, self.means, self.squares, strict=True):
            m.mul_(self.beta1).add_((1 - self.beta1) * p.grad)
            v.mul_(self.beta2).add_((1 - self.beta2) * p.grad**2)
            m_hat = m / (1 - self.beta1**self.t)
            v_hat = v / (1 - self.beta2**self.t)
            p -= self.lr * m_hat / (v_hat.sqrt() + self.epsilon)


def compute(*, lr: Positive = 0.1, beta1: Fraction = 0.9, beta2: Fraction = 0.999, steps: Count = 80) -> Values:
    w = torch.tensor([5.0, 1.0], requires_grad=True)
    optimizer = Adam([w], lr, beta1, beta2)
    path, gradients = [w.detach().clone()], []
    for _ in range(steps):
        w.grad = None
        valley(w).backward()
        gradients.append(w.grad.clone())
        optimizer.step()
        path.append(w.detach().clone())
    return {"path": torch.stack(path), "gradients": torch.stack(gradients)}


def show(values: Values) -> Parts:
    path, gradients = values["path"], values["gradients"]
    moved = path[1] - path[0]
    steps = len(path) - 1
    chosen = sorted({0, min(1, steps), min(2, steps), steps // 4, steps // 2, steps})
    rows = [[step, *path[step].tolist(), valley(path[step]).item()] for step in chosen]
    return [
        f"First gradient: ({gradients[0][0]:g}, {gradients[0][1]:g}). First step: ({moved[0]:.3f}, {moved[1]:.3f}).",
        Table(["step", "x", "y", "f"], rows),
    ]


def draw(values: Values, figure: Figure) -> None:
    draw_valley(figure, {"Adam": values["path"]})


def _ratio_of_first_steps() -> float:
    w = torch.zeros(2)
    w.grad = torch.tensor([0.001, 1000.0])
    Adam([w], lr=0.1).step()
    return round((w[1] / w[0]).item(), 3)


EXERCISES = [
    Exercise(
        "β₁ = 0.9, first gradient 5. What is m after it, and m̂? Both numbers.",
        lambda: (0.1 * 5, 0.1 * 5 / (1 - 0.9)),
        "m starts at 0 and takes a tenth of g; m̂ divides by 1 − 0.9.",
    ),
    Exercise(
        "First gradients of 0.001 and 1000, lr 0.1: how many times as far does the second weight move in that step?",
        _ratio_of_first_steps,
        "g/|g|.",
        slips={1e6: "That is the ratio of the gradients; Adam divides by it."},
    ),
]
