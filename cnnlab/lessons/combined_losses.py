"""Two losses into one number, and L1 as a regulariser.

Stands on: losses.

An optimizer goes downhill on one number. A network that says both where something is and what it is has two
losses, a squared error and a cross-entropy; they are added, each with a weight that says how much it matters:

    $L = a · L₁ + b · L₂$        so        $gradient of L = a · gradient of L₁ + b · gradient of L₂$

A regulariser is a second loss of the same kind, one that looks at the weights only. It keeps them small
where the data do not ask for them. Which kind of small depends on its slope at zero:

    L2   $λ · Σ w²$     its slope shrinks with w     all weights smaller, none zero
    L1   $λ · Σ |w|$    its slope is ±λ throughout   weights of no use go all the way to 0

Question: Why must it be a single number?
Answer: "Downhill" needs an order. Of two numbers one may grow while the other falls, and neither is better.
torch says so when `backward` is called on a tensor of two: only a scalar can be differentiated by itself.

Question: The notes say that L1 is mostly used as a regulariser. And as a loss?
Answer: Both, on different things. As a loss it measures errors and forgives wild points (lesson `losses`);
as a regulariser it measures weights and makes most of them zero: in the table seven of ten inputs are
noise, and L1 finds out which.

On real data: L2 is the optimizer's weight decay; how strong it should be, the validation images decide.

    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.05 optimizer.weight_decay=0.0005
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values, number
from cnnlab.signature import NonNegative, Whole


def fit(x: Tensor, y: Tensor, penalty: str, strength: float, steps: int = 600, lr: float = 0.02) -> Tensor:
    """The weights of a linear model that make squared error plus `strength` times the penalty small."""
    w = torch.zeros(x.shape[1], requires_grad=True)
    for _ in range(steps):
        loss = (x @ w - y).square().mean()
        if penalty == "L2":
            loss = loss + strength * w.square().sum()
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= lr * gradient
            if penalty == "L1":  # its slope jumps at 0: a step of lr · λ down it ends at 0 at the latest
                w.copy_(w.sign() * (w.abs() - lr * strength).clamp(min=0))
    return w.detach()


def compute(*, strength: NonNegative = 0.2, seed: Whole = 0) -> Values:
    truth = torch.tensor([3.0, -2.0, 1.0, 0, 0, 0, 0, 0, 0, 0])
    with seeded(seed):
        x = torch.randn(60, 10)
        y = x @ truth + 0.5 * torch.randn(60)
    weights = {name: fit(x, y, name, strength) for name in ("none", "L2", "L1")}

    # Two losses at once: gradients add with the same weights as the losses.
    w = torch.ones(10, requires_grad=True)
    error, size = (x @ w - y).square().mean(), w.square().sum()
    (of_sum,) = torch.autograd.grad(error + strength * size, w, retain_graph=True)
    (of_error,) = torch.autograd.grad(error, w, retain_graph=True)
    (of_size,) = torch.autograd.grad(size, w, retain_graph=True)
    try:
        torch.stack([error, size]).backward()
        refusal = "nothing"
    except RuntimeError as error_of_torch:
        refusal = str(error_of_torch)
    return {
        "truth": truth,
        "weights": weights,
        "zeros": {name: int((w == 0).sum()) for name, w in weights.items()},
        "gradient": of_sum,
        "sum_of_gradients": of_error + strength * of_size,
        "refusal": refusal,
    }


def show(values: Values) -> Parts:
    rows = [["the truth", values["truth"][0].item(), *values["truth"][1:4].tolist(), "0"]]
    for name, w in values["weights"].items():
        rest = f"{w[3:].abs().max():.3f}"
        rows.append([name, *w[:4].tolist(), rest])
    difference = (values["gradient"] - values["sum_of_gradients"]).abs().max().item()
    return [
        Table(["penalty", "w₁", "w₂", "w₃", "w₄", "largest of the seven that should be 0"], rows),
        "Weights that are exactly 0: " + ", ".join(f"{name} {count}" for name, count in values["zeros"].items()) + ".",
        f"The gradient of the sum and the sum of the gradients differ by at most {number(difference)}.",
        f"Two losses, not added: {values['refusal']}",
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = figure.subplots()
    for offset, (name, w) in zip((-0.25, 0, 0.25), values["weights"].items(), strict=True):
        axes.bar([i + 1 + offset for i in range(len(w))], w.tolist(), width=0.24, label=name)
    axes.axhline(0, color="gray", linewidth=0.6)
    axes.set(xlabel="weight; true are 3, −2, 1 and zeros", xticks=range(1, 11))
    axes.legend(title="penalty")


EXERCISES = [
    Exercise(
        "L₁ = 2 with the gradient 3, L₂ = 10 with the gradient −1, L = L₁ + 0.5·L₂. The gradient of L?",
        lambda: 3 + 0.5 * -1,
        "Gradients add with the weights of their losses.",
        slips={7.0: "That is L itself."},
    ),
    Exercise(
        "A weight of 0.001 with λ = 0.1: how many times larger is the slope of λ·|w| than that of λ·w²?",
        lambda: 0.1 / (2 * 0.1 * 0.001),
        "The slopes are λ and 2·λ·w.",
    ),
    Exercise(
        "In this lesson with strength=3 and the penalty L1: how many of the ten weights are exactly 0?",
        lambda: compute(strength=3.0)["zeros"]["L1"],
        "Run it: cnnlab lesson combined_losses strength=3.",
    ),
]
