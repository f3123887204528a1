"""Linear regression by hand: the whole of training in six lines.

Stands on: from_numpy.

Seventeen points, and a line $y = w·x + b$ to be laid through them. The loss is the mean of the squared
distances; its gradient says how w and b should change; a small step against it, and again:

    $L = mean (w·x + b − y)²$      $w ← w − lr · ∂L/∂w$      $b ← b − lr · ∂L/∂b$

Only the gradient is left to torch. It *adds* to what `.grad` holds, so before each backward pass the
old gradient has to be cleared; leave that out, and the line swings to and fro and never comes to rest.

Question: The notes warn that more epochs make the error larger. Do they?
Answer: Not the error on these points: with lr 0.005 every step lowers it, towards that of the best
line, which a formula gives ("least squares" in the table). Try epochs=5000. What can grow with training
is the error on *new* points, and two parameters for seventeen points leave little room even for that.
The error does grow where the *rate* is too large: try lr=0.02.

On real data: the notes' points with cnnlab's loop; the line is drawn in the run's plots/line.png.

    cnnlab train experiment=linear_regression
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Positive, Whole

X = torch.tensor(
    [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59] + [2.167, 7.042, 10.791, 5.313, 7.997, 5.654, 9.27, 3.1]
)
Y = torch.tensor(
    [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53] + [1.221, 2.827, 3.465, 1.65, 2.904, 2.42, 2.94, 1.3]
)


def compute(*, lr: Positive = 0.005, epochs: Count = 100, seed: Whole = 0) -> Values:
    with seeded(seed):
        w = torch.randn(1, requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    losses = []
    for _ in range(epochs):
        w.grad = b.grad = None
        loss = ((w * X + b - Y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
            b -= lr * b.grad
        losses.append(loss.item())
    return {"w": w.item(), "b": b.item(), "losses": losses, "x": X, "y": Y, "best": least_squares(X, Y)}


def least_squares(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Slope, intercept and loss of the best line: slope = covariance(x, y) / variance(x)."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx * dy).sum() / (dx * dx).sum()
    intercept = y.mean() - slope * x.mean()
    loss = ((slope * x + intercept - y) ** 2).mean()
    return slope.item(), intercept.item(), loss.item()


def show(values: Values) -> Parts:
    losses = values["losses"]
    chosen = sorted({0, *range(len(losses) // 10 - 1, len(losses), max(1, len(losses) // 10))} - {-1})
    return [
        Table(["epoch", "loss"], [[i + 1, losses[i]] for i in chosen]),
        Table(
            ["line", "w", "b", "loss"],
            [["last step", values["w"], values["b"], losses[-1]], ["least squares", *values["best"]]],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    x, y = values["x"].tolist(), values["y"].tolist()
    ends = [min(x), max(x)]
    slope, intercept, least = values["best"]
    left.plot(x, y, "o", label="points")
    left.plot(ends, [values["w"] * end + values["b"] for end in ends], label="learned")
    left.plot(ends, [slope * end + intercept for end in ends], "--", label="least squares")
    left.set(xlabel="x", ylabel="y")
    left.legend()
    right.semilogy(range(1, len(values["losses"]) + 1), values["losses"])
    right.axhline(least, color="gray", linewidth=0.8)
    right.set(xlabel="epoch", ylabel="loss; gray: of least squares")


def _design() -> Tensor:
    """A row (x, 1) for each point: the line's values are this matrix times (w, b)."""
    return torch.stack([X, torch.ones_like(X)], dim=1)


EXERCISES = [
    Exercise(
        "At w = 0, b = 0: what is ∂L/∂b?",
        lambda: -2 * Y.mean().item(),
        "∂L/∂b = mean 2·(w·x + b − y), and w·x + b is 0.",
        slips={2.2418: "Half of it: the square brings a factor of 2, and mind the sign."},
    ),
    Exercise(
        "Above which lr does the loss grow without end? (2 divided by the largest curvature of L)",
        lambda: 2 / torch.linalg.eigvalsh(2 * _design().T @ _design() / len(X)).max().item(),
        "L's second derivatives are 2·mean x², 2·mean x and 2: the larger eigenvalue of that matrix. Or try out lr=.",
    ),
    Exercise(
        "Every y is doubled. By which factor does the loss of the best line grow?",
        lambda: round(least_squares(X, 2 * Y)[2] / least_squares(X, Y)[2]),
        "All distances double; the loss is made of their squares.",
        slips={2: "Distances double, their squares do not."},
    ),
]
