"""Convolution, pooling, activation: does the order matter?

Stands on: max_pool, activations.

The notes write conv → pool → relu in one network and conv → relu → pool in the other, and say that both are
right as long as an activation stands between two convolutions. For the maximum they are not just both right,
they are the same. A ReLU never turns the order of two numbers around, so the largest stays the largest:

    $relu(max(a, b)) = max(relu(a), relu(b))$

The same holds for every activation that rises: sigmoid, tanh, leaky ReLU. A mean is another matter, because
these functions bend:

    $sigmoid((a + b) / 2)$ is not $(sigmoid(a) + sigmoid(b)) / 2$

LeNet has sigmoids and average pooling. There the order makes another network.

Question: Then which order should I take for the maximum?
Answer: Pooling first: the activation then has a quarter of the numbers to work on. Results and gradients are
the same but for ties.

Question: May there be no activation between two convolutions?
Answer: There may, but the two are then one convolution (lesson `stacked_linear`), with the pooling's maximum
as the only bend between them.

On real data: cnnlab pools first in both networks, also in mnist_cnn, where the notes pool after the
activation. See the order of the kinds.

    cnnlab inspect model=two_conv dataset=digits
    cnnlab inspect model=mnist_cnn dataset=digits
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole

POOLINGS = {"maximum": F.max_pool2d, "average": F.avg_pool2d}
ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def compute(*, size: Count = 8, seed: Whole = 0) -> Values:
    with seeded(seed):
        maps = 2 * torch.randn(1, 3, size, size)
    rows = []
    for pooling_name, pool in POOLINGS.items():
        for name, activate in ACTIVATIONS.items():
            difference = (activate(pool(maps, 2)) - pool(activate(maps), 2)).abs().max().item()
            rows.append([pooling_name, name, difference])
    pair = torch.tensor([-2.0, 4.0])
    return {
        "rows": rows,
        "pool_first": pair.mean().sigmoid().item(),
        "sigmoid_first": pair.sigmoid().mean().item(),
        "work": (maps.numel(), F.max_pool2d(maps, 2).numel()),
    }


def show(values: Values) -> Parts:
    before, after = values["work"]
    return [
        Table(["pooling", "activation", "largest difference of the two orders"], values["rows"]),
        f"Of −2 and 4 the sigmoid of the mean is {values['pool_first']:.4f}, the mean of the sigmoids "
        f"{values['sigmoid_first']:.4f}.",
        f"Numbers that the activation works on: {before} before pooling, {after} after it.",
    ]


def draw(values: Values, figure: Figure) -> None:
    x = torch.linspace(-5, 5, 101)
    a, b = -2.0, 4.0
    sigmoid = torch.sigmoid
    axes = figure.subplots()
    axes.plot(x.numpy(), sigmoid(x).numpy(), label="sigmoid")
    ends = [sigmoid(torch.tensor(end)).item() for end in (a, b)]
    axes.plot([a, b], ends, "--", marker="o", label="from −2 to 4 in a straight line")
    axes.plot([1], [values["pool_first"]], "s", label="mean first, then sigmoid")
    axes.plot([1], [values["sigmoid_first"]], "D", label="sigmoids first, then mean")
    axes.legend(fontsize=7)


EXERCISES = [
    Exercise(
        "relu of the mean of −2 and 4?",
        lambda: torch.tensor([-2.0, 4.0]).mean().relu().item(),
        "The mean first.",
    ),
    Exercise(
        "The mean of relu(−2) and relu(4)?",
        lambda: torch.tensor([-2.0, 4.0]).relu().mean().item(),
        "The −2 becomes 0 first.",
    ),
    Exercise(
        "A *falling* activation, −relu(x), and max pooling: are the two orders still the same? (yes or no)",
        lambda: "no",
        "Try 1 and 2: which of them wins before, which after?",
    ),
]
