"""The same cell, run later: a name that means something else by now.

Stands on: learn_kernel.

The notes look for edges three times, and each time write the result into Y: first of the image, then of
the image on its side, then of that with the kernel on its side as well. Then comes the cell that learns
the kernel from X and Y. It reshapes Y to (1, 1, 6, 5), as if it still held the first result; but by now Y
is the last one, of 5 rows and 6 columns. The 30 numbers fit. They are not where they were.

So the cell asks for a kernel that turns the image's vertical edges into a pattern of scattered ones, and no
1×2 kernel does. The loss falls from 12 or 15 to a little above 11.6 and stays there; the kernel comes to rest near
(0.17, −0.17), a sixth of what was looked for.

Question: How could I have noticed?
Answer: By a shape that had to be changed before it fitted: a correct Y has 6 rows and 5 columns as it is.
And by a loss that comes to rest far above zero, in a problem whose solution is known to exist. Give
results names of their own (edges, turned_edges), and restart a notebook and run all of it before you
believe it. (That cell's comment also promises a kernel of (2, 2); its code says (1, 2).)

Question: Is 11.6 a matter of the learning rate or of more steps?
Answer: No. It is the least squares solution of the wrong problem: no kernel has a smaller loss, and the
table says what that one is.

On real data: labels that do not belong to their images look just like this: a loss that stays high.
With `cnnlab train engine.overfit=2` a network must be able to learn two batches by heart; if it cannot,
look at the labels.

    cnnlab train dataset=digits engine.overfit=2 epochs=60
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.cross_correlation import corr2d
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Positive, Whole


def learn(image: Tensor, target: Tensor, lr: float, steps: int, seed: int) -> tuple[list[float], Tensor]:
    """The losses of gradient descent on a 1×2 kernel, and the kernel at the end."""
    with seeded(seed):
        layer = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    losses = []
    for _ in range(steps):
        loss = ((layer(image[None, None])[0, 0] - target) ** 2).sum()
        layer.zero_grad()
        loss.backward()
        with torch.no_grad():
            layer.weight -= lr * layer.weight.grad
        losses.append(loss.item())
    return losses, layer.weight.detach().flatten()


def compute(*, lr: Positive = 0.03, steps: Count = 10, seed: Whole = 0) -> Values:
    x = torch.ones(6, 6)
    x[:, 2:4] = 0
    k = torch.tensor([[1.0, -1.0]])
    y_first = corr2d(x, k)  # (6, 5), what the cell is meant to learn from
    y_last = corr2d(x.T, k.T).reshape(6, 5)  # (5, 6), pressed into the other shape
    losses, kernels = {}, {}
    for name, target in (("Y as first computed", y_first), ("Y as the notes have it by then", y_last)):
        losses[name], kernels[name] = learn(x, target, lr, steps, seed)

    # The best kernel there is: least squares over the 30 windows.
    windows = torch.stack([x[:, :-1].flatten(), x[:, 1:].flatten()], dim=1)  # (30, 2)
    best = torch.linalg.lstsq(windows, y_last.flatten()[:, None]).solution
    least = ((windows @ best - y_last.flatten()[:, None]) ** 2).sum()
    return {
        "first": y_first,
        "last": y_last,
        "losses": losses,
        "kernels": kernels,
        "best": best.flatten(),
        "least": least.item(),
    }


def show(values: Values) -> Parts:
    rows = [
        [name, losses[0], losses[-1], f"({values['kernels'][name][0]:.3f}, {values['kernels'][name][1]:.3f})"]
        for name, losses in values["losses"].items()
    ]
    best = values["best"]
    return [
        {"Y as first computed": values["first"], "Y as the notes have it by then": values["last"]},
        Table(["learning from", "first loss", "last loss", "kernel"], rows),
        f"The best kernel for the second Y is ({best[0]:.4f}, {best[1]:.4f}), and its loss {values['least']:.4f}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, middle, right = panels(figure, 3)
    draw_matrix(left, values["first"], "Y as first computed")
    draw_matrix(middle, values["last"], "Y by then")
    for name, losses in values["losses"].items():
        right.plot(range(1, len(losses) + 1), losses, marker=".", label=name.replace(" as the notes have it", ""))
    right.axhline(values["least"], color="gray", linewidth=0.8)
    right.set(xlabel="step", ylabel="loss; gray: the least there is", ylim=(0, None))
    right.legend(fontsize=7)


EXERCISES = [
    Exercise(
        "The sum of the squares of all entries of the second Y: the loss of the kernel (0, 0)?",
        lambda: (compute(steps=1)["last"] ** 2).sum().item(),
        "How many ones and minus ones does it hold?",
    ),
    Exercise(
        "Had the cell not reshaped Y: does torch subtract a (5, 6) Y from a (6, 5) output? (yes or no)",
        lambda: "no",
        "Sizes must be equal, or 1: would an error have been the better outcome?",
    ),
    Exercise(
        "How many of the 30 entries of the second Y are what they are in the first?",
        lambda: int((compute(steps=1)["first"] == compute(steps=1)["last"]).sum()),
        "Compare the two matrices on the page, entry by entry.",
    ),
]
