"""LeNet: all of it together, and the shape after every layer.

Stands on: conv, pooling, activations, sequential.

Two parts. The encoder turns an image into features: convolution, sigmoid, average pooling, twice. Each
time the image gets smaller and the channels get more: *where* is given up for *what*. Then the features
are laid out in a row, and three linear layers decide.

Every number below follows from the rules of the earlier lessons. With the first layer's padding of 2
the 28×28 image stays; pooling halves it; the second 5×5 kernel takes 4; pooling halves again; and 16
maps of 5×5 are the 400 inputs of the first linear layer.

Question: Where are the parameters?
Answer: Not in the convolutions: they hold 2,572 of 61,706. The first linear layer alone, 400 to 120,
has 48,120. That is why later networks average each map to one number before their only linear layer.

Question: What is the notes' `Reshape` for?
Answer: Their images may come as rows of $28 · 28 = 784$ numbers; it makes them (N, 1, 28, 28). Images that were
read as images have that shape already.

Question: The notes' first digit network has a linear layer of 320 inputs, and a comment that says (n, 784).
Answer: 320 is right: $28 → 24 → 12 → 8 → 4$ by two 5×5 layers and two poolings, and 20 maps of 4×4. The 784
pixels are what goes into the first layer, not what leaves the last.

On real data: the same table for cnnlab's LeNet, and the training of lesson `case_fashion`.

    cnnlab inspect model=lenet dataset=fashion_mnist
    cnnlab train experiment=lenet_fashion
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons.diagrams import draw_network
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count


def build_lenet() -> nn.Sequential:
    """LeCun et al. 1998, as taught today: (N, 1, 28, 28) → (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, 10),
    )


def compute(*, batch_size: Count = 1) -> Values:
    with seeded(0):
        net = build_lenet()
    x = torch.zeros(batch_size, 1, 28, 28)
    rows = [("image", tuple(x.shape), 0)]
    with torch.no_grad():
        for layer in net:
            x = layer(x)
            rows.append((type(layer).__name__, tuple(x.shape), sum(p.numel() for p in layer.parameters())))
    return {"rows": rows, "parameters": sum(count for _, _, count in rows)}


def show(values: Values) -> Parts:
    return [
        Table(["layer", "shape after it", "parameters"], [list(row) for row in values["rows"]]),
        f"{values['parameters']:,} parameters in all.",
    ]


def draw(values: Values, figure: Figure) -> None:
    draw_network(figure, build_lenet(), torch.zeros(1, 1, 28, 28))


EXERCISES = [
    Exercise(
        "A second convolution of 3×3 in place of 5×5, 6 to 16 channels: how many parameters?",
        lambda: sum(p.numel() for p in nn.Conv2d(6, 16, 3).parameters()),
        "16 kernels of 6·3·3 weights and a bias.",
        slips={864: "That is without the biases.", 160: "A kernel is as deep as its input."},
    ),
    Exercise(
        "On 32×32 images, without other changes: how many inputs would the first linear layer need?",
        lambda: build_lenet()[:7](torch.zeros(1, 1, 32, 32)).shape[1],
        "32 → 32 → 16 → 12 → 6, and 16 maps.",
    ),
    Exercise(
        "What share of the parameters do the two convolutions have, in per cent?",
        lambda: 100 * 2572 / compute()["parameters"],
        "2,572 of all.",
    ),
]
