"""Three kinds of problem, and the end of the network that fits each.

Stands on: activations.

    regression    one number: a shirt's price           1 output, as it is   squared error
    binary        one of two: a shirt, or not           1 output, sigmoid    binary cross-entropy
    multi-class   one of K: shirt, jeans, dress, coat   K outputs, softmax   cross-entropy

The body of the network does not care. A sigmoid turns one number into the probability of "yes"; a
softmax turns K numbers into K probabilities that sum to 1; a price is taken as it comes. Below, one and
the same body learns all three, from points in a square: how far from the centre, inside the circle or
not, and which quarter.

Question: Why does the last layer of a classifier in torch have no softmax?
Answer: Because the loss takes it over: `cross_entropy` and `binary_cross_entropy_with_logits` expect
the raw numbers (logits), and compute softmax and logarithm in one step that cannot overflow. With a
softmax in the network it would be applied twice, and training would be slow, without a word.

On real data: ten classes, then a number.

    cnnlab train dataset=digits
    cnnlab train experiment=linear_regression
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Positive, Whole


def binary_loss(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits[:, 0], target)


def distance_loss(outputs: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(outputs[:, 0], target)


def compute(*, steps: Count = 300, lr: Positive = 0.02, seed: Whole = 0) -> Values:
    with seeded(seed):
        points = 2 * torch.rand(256, 2) - 1
    distance = points.norm(dim=1)
    quarter = (points[:, 0] > 0).long() + 2 * (points[:, 1] > 0).long()
    problems = {
        "regression": (1, distance, distance_loss),
        "binary": (1, (distance < 0.8).float(), binary_loss),
        "multi-class": (4, quarter, F.cross_entropy),
    }
    outputs, losses = {}, {}
    for name, (num_outputs, target, criterion) in problems.items():
        with seeded(seed):
            net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, num_outputs))
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        history = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = criterion(net(points), target)
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses[name] = history
        outputs[name] = net(points).detach()

    inside = outputs["binary"][:, 0].sigmoid()
    probabilities = outputs["multi-class"].softmax(dim=1)
    return {
        "points": points,
        "losses": losses,
        "distance": distance,
        "predicted": outputs["regression"][:, 0],
        "inside": inside,
        "probabilities": probabilities,
        "error": (outputs["regression"][:, 0] - distance).abs().mean().item(),
        "binary_accuracy": ((inside > 0.5) == (distance < 0.8)).float().mean().item(),
        "accuracy": (probabilities.argmax(dim=1) == quarter).float().mean().item(),
    }


def show(values: Values) -> Parts:
    rows = [[name, losses[0], losses[-1]] for name, losses in values["losses"].items()]
    return [
        Table(["problem", "first loss", "last loss"], rows),
        f"Distance: off by {values['error']:.3f} on average. Inside or outside: "
        f"{values['binary_accuracy']:.0%} right. Quarter: {values['accuracy']:.0%} right.",
        {
            "point": values["points"][:3],
            "distance": values["predicted"][:3, None],
            "P(inside)": values["inside"][:3, None],
            "P(quarter)": values["probabilities"][:3],
        },
        "Each row of P(quarter) sums to 1.",
    ]


def draw(values: Values, figure: Figure) -> None:
    x, y = values["points"].T.numpy()
    colors = {
        "distance": values["predicted"],
        "P(inside)": values["inside"],
        "quarter": values["probabilities"].argmax(dim=1),
    }
    for axes, (name, color) in zip(panels(figure, 3), colors.items(), strict=True):
        axes.scatter(x, y, c=color.numpy(), s=8, cmap="tab10" if name == "quarter" else "viridis")
        axes.set(title=f"predicted {name}", aspect="equal", xticks=[], yticks=[])


EXERCISES = [
    Exercise(
        "A dog's breed, one of 120: how many outputs?",
        lambda: nn.Linear(512, 120).out_features,
        "As many as there are classes.",
    ),
    Exercise(
        "Four logits, all 0: what does softmax give each?",
        lambda: torch.zeros(4).softmax(dim=0)[0].item(),
        "They are equal and sum to 1.",
    ),
    Exercise(
        "A binary network's logit is 0: which probability of yes is that?",
        lambda: torch.zeros(()).sigmoid().item(),
        "The sigmoid at 0.",
        slips={0: "That is the logit; the sigmoid comes after it."},
    ),
]
