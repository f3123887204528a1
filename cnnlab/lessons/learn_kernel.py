"""Learning a kernel: gradient descent finds (1, −1) from the pictures before and after.

Stands on: edges, regression.

In the lesson `edges` we chose the kernel. Here nobody does: we have an image X and its edges Y, start
from a random 1×2 kernel w, and walk downhill on the squared error

    $L(w) = Σ (X ⋆ w − Y)²$        $w ← w − lr · ∂L/∂w$

This is all that training a convolutional network means; a network only has more kernels.

Question: What happens with lr=0.1?
Answer: The error grows without end. L is a bowl, and its steepest direction has curvature 60 here; with
an lr above $2/60 ≈ 0.033$ each step lands higher on the other side than it started. lr=0.03 is close to
that edge, and still on the good side: w jumps over its goal and back, a little nearer each time.

Question: In the notes the loss hardly falls, although the cell is the same.
Answer: Because Y is no longer what it was when the cell is run: lesson `overwritten`.

On real data: a network whose kernels all start random.

    cnnlab train model=two_conv dataset=digits
"""

from __future__ import annotations

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Positive, Whole


def compute(*, lr: Positive = 0.03, steps: Count = 10, seed: Whole = 0) -> Values:
    image = torch.ones(6, 6)
    image[:, 2:4] = 0
    edges = image[:, :-1] - image[:, 1:]

    with seeded(seed):
        layer = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    losses, kernels = [], [layer.weight.detach().flatten().clone()]
    for _ in range(steps):
        loss = ((layer(image[None, None])[0, 0] - edges) ** 2).sum()
        layer.zero_grad()
        loss.backward()
        with torch.no_grad():
            layer.weight -= lr * layer.weight.grad
        losses.append(loss.item())
        kernels.append(layer.weight.detach().flatten().clone())
    return {"losses": losses, "kernels": torch.stack(kernels), "image": image, "edges": edges}


def show(values: Values) -> Parts:
    kernels = values["kernels"]
    rows = [
        [step, loss, kernels[step][0].item(), kernels[step][1].item()] for step, loss in enumerate(values["losses"])
    ]
    return [
        {"X": values["image"], "Y": values["edges"]},
        Table(["step", "loss", "w₁", "w₂"], rows),
        f"After {len(rows)} steps the kernel is ({kernels[-1][0]:.3f}, {kernels[-1][1]:.3f}); "
        "the one that made Y is (1, −1).",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    left.semilogy(values["losses"], marker="o")
    left.set(xlabel="step", ylabel="loss")
    right.plot(values["kernels"].numpy(), marker="o", label=["w₁", "w₂"])
    right.axhline(1, color="gray", linewidth=0.5)
    right.axhline(-1, color="gray", linewidth=0.5)
    right.set(xlabel="step", ylabel="weight")
    right.legend()


EXERCISES = [
    Exercise(
        "The bowl's other curvature is 12. With lr=0.03, by which factor does the error along it shrink in a step?",
        lambda: 1 - 0.03 * 12,
        "Along a direction of curvature c a step multiplies the error by 1 − lr·c.",
        slips={0.36: "That is lr·c, what a step takes away."},
    ),
    Exercise(
        "And along the steepest, of curvature 60? (mind the sign)",
        lambda: 1 - 0.03 * 60,
        "1 − lr·c again; a negative factor is a jump over the goal.",
    ),
    Exercise(
        "If X were all ones and Y all zeros: would gradient descent have to find (0, 0)? (yes or no)",
        lambda: "no",
        "X ⋆ w is then w₁ + w₂ everywhere: which kernels make that 0?",
    ),
]
