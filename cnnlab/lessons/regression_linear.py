"""Linear regression with nn.Linear: the same line in torch's words.

What we did by hand has a name for each part, and the names stay the same up to the largest network:

    model       nn.Linear(1, 1)           w and b, and how the output follows from them
    criterion   nn.MSELoss()              the loss
    optimizer   torch.optim.SGD(...)      how a gradient becomes a step

The loop has four lines: clear the gradients, compute the loss, go backward, step. These are the notes'
fifteen points; two of the seventeen are missing there.

Question: How good is the line after these 60 epochs?
Answer: It is still on its way, with a learning rate of 0.001. The first few epochs find a line through
the middle of the points; the slope and the intercept that trade off against each other take long. The
lesson `optimizers` shows why, and what helps.

On real data: `model=linear` is this layer behind flattened images.

    cnnlab train model=linear dataset=mnist
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons import regression
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Values
from cnnlab.signature import Count, Positive, Whole

KEPT = (regression.X != 5.654) & (regression.X != 9.27)


def compute(*, lr: Positive = 0.001, epochs: Count = 60, seed: Whole = 0) -> Values:
    x, y = regression.X[KEPT][:, None], regression.Y[KEPT][:, None]  # (15, 1)
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
        "best": regression.least_squares(x, y),
    }


def show(values: Values) -> Parts:
    return regression.show(values)


def draw(values: Values, figure: Figure) -> None:
    regression.draw(values, figure)
