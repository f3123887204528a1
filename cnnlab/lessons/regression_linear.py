"""Linear regression with nn.Linear: the same line in torch's words.

Stands on: regression.

What we did by hand has a name for each part, and the names stay the same up to the largest network:

    `model`       `nn.Linear(1, 1)`        w and b, and how the output follows from them
    `criterion`   `nn.MSELoss()`           the loss
    `optimizer`   `torch.optim.SGD(...)`   how a gradient becomes a step

The loop has four lines: clear the gradients, compute the loss, go backward, step. These are the notes'
fifteen points; two of the seventeen are missing there. `nn.Linear(10, 5)` is the same with more of
everything: ten inputs, five outputs, fifty weights and five biases.

Question: How good is the line after these 60 epochs?
Answer: It is still on its way, with a learning rate of 0.001. The first few epochs find a line through
the middle of the points; slope and intercept, which trade off against each other, take long. The
lesson `optimizers` shows why, and what helps.

Question: The notes write `optim.SGD(model.parameters(), lr=0.01)`, and Python says that `model` is not
defined. Which package is it in?
Answer: In none: `model` is whatever name you gave to the network that you built, here
`model = nn.Linear(1, 1)`. The line can only stand after that one. The loop below it in the notes has two
more slips of this kind: it computes `losss` and calls `loss.backward()`, where `loss` is the criterion and
has no gradient to send back; and it prints `loss.backward()`, which is always None.

On real data: `model=linear` is this layer after flattened images, with ten outputs.

    cnnlab train experiment=linear_regression
    cnnlab train model=linear dataset=digits
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons import regression
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.regression import X, Y, least_squares
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Count, Positive, Whole

KEPT = (X != 5.654) & (X != 9.27)


def compute(*, lr: Positive = 0.001, epochs: Count = 60, seed: Whole = 0) -> Values:
    x, y = X[KEPT][:, None], Y[KEPT][:, None]  # (15, 1)
    with seeded(seed):
        model = nn.Linear(1, 1)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {
        "w": model.weight.item(),
        "b": model.bias.item(),
        "losses": losses,
        "x": x[:, 0],
        "y": y[:, 0],
        "best": least_squares(x, y),
    }


def show(values: Values) -> Parts:
    return regression.show(values)


def draw(values: Values, figure: Figure) -> None:
    regression.draw(values, figure)


EXERCISES = [
    Exercise(
        "How many parameters has nn.Linear(10, 5)?",
        lambda: sum(p.numel() for p in nn.Linear(10, 5).parameters()),
        "A weight for each pair of input and output, and a bias for each output.",
        slips={50: "That is without the biases."},
    ),
    Exercise(
        "The gradient of w is 3, lr is 0.001. By how much does one step of SGD change w?",
        lambda: -0.001 * 3,
        "w ← w − lr · gradient.",
        slips={0.003: "Downhill: against the gradient."},
    ),
    Exercise(
        "No zero_grad, and a gradient of 3 in each of three steps: what does w.grad hold after the third?",
        lambda: 9,
        "backward adds to what is there.",
    ),
]
