"""Initialisation, block by block and by hand.

Stands on: initialization, in_place.

`net.apply(f)` reaches every module of a network. A block is a module too, so each can have its own start:

    >>> net[0].apply(xavier)
    >>> net[2].apply(forty_two)

And where no ready initialiser fits, a start is whatever you write into the weight. The course that the notes
follow draws each weight from three cases:

    uniform in (5, 10)      with the probability 1/4
    0                       with the probability 1/2
    uniform in (−10, −5)    with the probability 1/4

which is a uniform number from (−10, 10), set to 0 where it is smaller than 5 in size. Last, single numbers can
be set by hand; lesson `in_place` tells why under `no_grad`.

Question: Does `net.apply(f)` also reach layers inside a block?
Answer: Yes, children first, then the module itself; f is called with every one of them, also with a ReLU and
with the Sequential, and decides by type which ones it sets.

Question: What survives `optimizer.step()` of a weight set by hand?
Answer: Nothing is protected: the next step changes it like every other. To keep a number, make it a buffer
(lesson `constants`) or freeze its tensor.

On real data: cnnlab's initialisations go over a network's layers in the same way.

    cnnlab train dataset=digits model.init=kaiming
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)


def forty_two(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 42.0)


def three_cases(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.uniform_(module.weight, -10, 10)
        with torch.no_grad():
            module.weight.mul_(module.weight.abs() >= 5)


def compute(*, features: Count = 64, hidden: Count = 64, seed: Whole = 0) -> Values:
    with seeded(seed):
        net = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        net[0].apply(xavier)
        net[2].apply(forty_two)
        blockwise = [net[0].weight.detach().clone(), net[2].weight.detach().clone()]

        net[0].apply(three_cases)
    drawn = net[0].weight.detach().clone()

    with torch.no_grad():
        net[0].weight.add_(1)  # every weight of the layer
        net[0].weight[0, 0] = 42  # a single one
    return {
        "blockwise": blockwise,
        "drawn": drawn,
        "zero": (drawn == 0).float().mean().item(),
        "above": (drawn >= 5).float().mean().item(),
        "below": (drawn <= -5).float().mean().item(),
        "by_hand": net[0].weight.detach()[:3, :4],
        "same_weights_before": drawn[:3, :4],
    }


def show(values: Values) -> Parts:
    first, second = values["blockwise"]
    return [
        Table(
            ["block", "start", "smallest", "largest"],
            [
                ["net[0]", "xavier", first.min().item(), first.max().item()],
                ["net[2]", "forty_two", second.min().item(), second.max().item()],
            ],
        ),
        f"The three cases, counted over {values['drawn'].numel():,} weights: zero {values['zero']:.1%}, above 5 "
        f"{values['above']:.1%}, below −5 {values['below']:.1%}.",
        {"three cases, a corner": values["same_weights_before"], "plus 1, and one set to 42": values["by_hand"]},
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    left.hist(values["blockwise"][0].flatten().numpy(), bins=30)
    left.set(title="net[0], xavier", xlabel="weight", yticks=[])
    right.hist(values["drawn"].flatten().numpy(), bins=40)
    right.set(title="three cases", xlabel="weight", yticks=[])


EXERCISES = [
    Exercise(
        "Of 10,000 weights from the three cases: about how many are zero?",
        lambda: 5000,
        "A uniform number from (−10, 10) is smaller than 5 in size half the time.",
    ),
    Exercise(
        "The variance of such a weight? (the mean of its square; that of a uniform number from (5, 10) is 175/3)",
        lambda: 175 / 6,
        "Half of the weights are zero, and the others contribute 175/3.",
        slips={175 / 3: "Half of the weights are zero."},
    ),
    Exercise(
        "net is Sequential(Linear, ReLU, Linear). With how many modules does net.apply(f) call f?",
        lambda: sum(1 for _ in nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).modules()),
        "Every module, the Sequential itself too.",
        slips={3: "And the Sequential itself.", 2: "The ReLU is a module as well, and so is the Sequential."},
    ),
]
