"""Fine-tuning: begin with what another network has learned.

Stands on: parameters, batch_norm, problems.

A few hundred pictures are too few to learn what edges, fur and eyes look like. A network that was trained on a
million of others has learned that already; only its last layer is about *their* classes. So that one is
replaced, and there are three ways to go on:

    frozen    only the new head learns; the rest keeps its weights
    all       everything learns, with a small rate, from the old weights on
    scratch   everything learns, from random weights on: what the other two are compared with

Freezing is `requires_grad_(False)`: no gradients are computed for these weights, none are kept, and the
optimizer is given only those of the head. Here both problems are about points of 20 numbers, labelled by the
same hidden features: the first has ten classes and 4,000 points, the second four classes and 80.

Question: Can I also freeze a network with random weights?
Answer: You can, and its head then learns from random features: the table's last row. It is what happens when
the weights were never loaded. `cnnlab train ... model.freeze=backbone` makes sense with `model.weights=` only.

Question: What about batch normalisation in the frozen part?
Answer: Its running averages are no parameters, and move in training mode (lesson `batch_norm`). Put the frozen
part in `eval()`, as cnnlab does, or the features change while the head learns.

Question: The notes' head on ResNet-34 is 512 → 256 → ReLU → 120. How many weights learn?
Answer: $512 · 256 + 256 + 256 · 120 + 120 = 162,168$, of 21.4 million. That is why an epoch is quick: the
features of each image can be computed once and kept (`model.feature_views`).

On real data: the recipe of the notes. DIR is the download as Kaggle unzips it.

    cnnlab train experiment=dog_breeds_resnet34 dataset.root=DIR model.weights=resnet34.pth
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def make_problem(hidden: Tensor, classes: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points and labels to learn from, and 2,000 to test with; the label is the strongest of `classes` mixtures
    of hidden features that all problems share."""
    mixtures = torch.randn(hidden.shape[1], classes)
    x = torch.randn(number + 2000, hidden.shape[0])
    strengths = (x @ hidden).relu() @ mixtures
    y = (strengths - strengths.mean(dim=0)).argmax(dim=1)
    return x[:number], y[:number], x[number:], y[number:]


def new_backbone() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU())


def train(net: nn.Module, x: Tensor, y: Tensor, lr: float, steps: int) -> None:
    """Adam on the parameters that are not frozen."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    return (net(x).argmax(dim=1) == y).float().mean().item()


def compute(*, images: Count = 80, steps: Count = 200, seed: Whole = 0) -> Values:
    with seeded(seed):
        hidden = torch.randn(20, 12)
        x, y, test_x, test_y = make_problem(hidden, classes=10, number=4000)
        trained = new_backbone()
        source = nn.Sequential(trained, nn.Linear(64, 10))
        train(source, x, y, lr=0.01, steps=200)
        source_accuracy = accuracy(source, test_x, test_y)

        x, y, test_x, test_y = make_problem(hidden, classes=4, number=images)
        rows = []
        ways = [
            ("frozen, trained before", trained, True, 0.01),
            ("all, trained before", trained, False, 0.001),
            ("scratch", new_backbone(), False, 0.01),
            ("frozen, random", new_backbone(), True, 0.01),
        ]
        for name, backbone, frozen, lr in ways:
            backbone = copy.deepcopy(backbone).requires_grad_(not frozen)
            net = nn.Sequential(backbone, nn.Linear(64, 4))
            train(net, x, y, lr, steps)
            learning = sum(p.numel() for p in net.parameters() if p.requires_grad)
            rows.append([name, learning, accuracy(net, x, y), accuracy(net, test_x, test_y)])
    return {"rows": rows, "source_accuracy": source_accuracy, "images": images}


def show(values: Values) -> Parts:
    return [
        f"First problem, ten classes: {values['source_accuracy']:.0%} right. Second, four classes, "
        f"{values['images']} points:",
        Table(["backbone", "weights that learn", "right of the learned", "right of 2,000 new"], values["rows"]),
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = figure.subplots()
    names = [row[0] for row in values["rows"]]
    axes.barh(names, [row[3] for row in values["rows"]])
    axes.axvline(0.25, color="gray", linewidth=0.8)
    axes.set(xlabel="accuracy on new points; gray: guessing", xlim=(0, 1))
    axes.invert_yaxis()


EXERCISES = [
    Exercise(
        "ResNet-34's 512 features and a single new Linear(512, 120): how many parameters learn?",
        lambda: sum(p.numel() for p in nn.Linear(512, 120).parameters()),
        "512·120 weights and 120 biases.",
        slips={61440: "That is without the biases."},
    ),
    Exercise(
        "How many of the gradients of a frozen backbone does backward() compute? A number.",
        lambda: sum(p.grad is not None for p in new_backbone().requires_grad_(False).parameters()),
        "requires_grad is False for all of them.",
    ),
    Exercise(
        "With images=4000, does frozen still beat scratch? (yes or no)",
        lambda: "yes" if _frozen_wins(4000) else "no",
        "Run it: cnnlab lesson fine_tuning images=4000.",
    ),
]


def _frozen_wins(images: int) -> bool:
    (*_, frozen), _, (*_, scratch), _ = compute(images=images)["rows"]
    return frozen > scratch
