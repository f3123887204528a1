"""Changing a weight: `weight.data`, `no_grad`, and what "in place" means.

Stands on: regression.

A training step writes new numbers into the memory of a weight: it changes the tensor *in place*. Autograd
watches every operation on a weight in order to differentiate it, and a step is not to be differentiated.
So there are four ways to write it, and two of them work:

    `w -= lr * w.grad`                         refused: autograd would have to follow the change
    `w = w - lr * w.grad`                      a new tensor, no longer a weight, and without a `.grad`
    `with torch.no_grad(): w -= lr * w.grad`   right: in place, and autograd looks away
    `w.data -= lr * w.grad`                    the notes' way: also in place, and autograd never hears of it

Question: The notes ask about `conv2d.weight.data[:] -= lr * conv2d.weight.grad`: is that in place?
Answer: Yes. `.data` is a second tensor on the same memory that autograd does not know, and `[:] -=` writes
into that memory: after it the weight is still the same object, at the same address, with new numbers. The
layer, the optimizer and every tied layer see them.

Question: Then why `no_grad` and not `.data`?
Answer: Because autograd counts changes. If a value that a backward pass needs has been changed in the
meantime, torch says so. Through `.data` the change is not counted, and the gradient is wrong without a
word: in the second table $y = w²$ at w = 3 has the slope 6, and after `w.data` was set to 10 the backward
pass says 20.

Question: What is in place about `nn.ReLU(inplace=True)` and `out += shortcut` in the notes' ResNet?
Answer: They overwrite what the layer before them computed, which saves its memory. Autograd counts these
changes too. Both are safe there: the backward pass of a ReLU needs its output only, that of a sum nothing.

On real data: every optimizer takes its steps in place, under no_grad.

    cnnlab train dataset=digits optimizer=sgd optimizer.lr=0.05
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Positive


def weight_with_gradient() -> Tensor:
    """A weight of 3 on which y = w² has been differentiated: its gradient is 6."""
    w = torch.tensor(3.0, requires_grad=True)
    (w * w).backward()
    return w


def compute(*, lr: Positive = 0.1) -> Values:
    w = weight_with_gradient()
    try:
        w -= lr * w.grad
        refusal = "nothing"
    except RuntimeError as error:
        refusal = str(error).partition("\n")[0]

    w = weight_with_gradient()
    replaced = w - lr * w.grad  # a new tensor, computed from the weight

    quiet, data = weight_with_gradient(), weight_with_gradient()
    before = quiet.data_ptr(), data.data_ptr()
    with torch.no_grad():
        quiet -= lr * quiet.grad
    data.data -= lr * data.grad

    slopes = {}
    for name in ("data", "no_grad"):
        w = torch.tensor(3.0, requires_grad=True)
        y = w * w  # keeps w for its backward pass
        if name == "data":
            w.data.fill_(10)
        else:
            with torch.no_grad():
                w.fill_(10)
        try:
            y.backward()
            slopes[name] = f"{w.grad.item():g}, without a word"
        except RuntimeError as error:
            slopes[name] = "refused: " + str(error).partition(":")[0]
    return {
        "refusal": refusal,
        "replaced": replaced.item(),
        "replaced_is_leaf": replaced.is_leaf,
        "no_grad": quiet.item(),
        "data": data.item(),
        "same_memory": before == (quiet.data_ptr(), data.data_ptr()),
        "slopes": slopes,
    }


def show(values: Values) -> Parts:
    kept = "in the same memory" if values["same_memory"] else "elsewhere"
    return [
        "A weight of 3, a gradient of 6:",
        Table(
            ["step", "what happens", "weight"],
            [
                ["`w -= lr * w.grad`", f"torch: {values['refusal']}", "3"],
                ["`w = w - lr * w.grad`", "a result of a computation, not a weight", f"{values['replaced']:.4g}"],
                ["under `no_grad`", kept, f"{values['no_grad']:.4g}"],
                ["`w.data -= ...`", kept, f"{values['data']:.4g}"],
            ],
        ),
        "Now w is changed from 3 to 10 between $y = w²$ and the backward pass:",
        Table(["changed", "slope that comes back"], [["through `.data`", values["slopes"]["data"]],
                                                    ["under `no_grad`", values["slopes"]["no_grad"]]]),
    ]  # fmt: skip


EXERCISES = [
    Exercise(
        "w is 3, its gradient 6, lr 0.25. What is w after one step?",
        lambda: compute(lr=0.25)["no_grad"],
        "w − lr · gradient.",
    ),
    Exercise(
        "v = w.data; v[0] = 7, for a weight w of one entry. What does w hold then?",
        lambda: 7,
        "v is a second tensor on the same memory.",
    ),
    Exercise(
        "After w = w - lr * w.grad the optimizer still steps on the old tensor. Does the network that uses the new "
        "name w see its steps? (yes or no)",
        lambda: "no",
        "Which tensor does the optimizer hold, and which one does the name w stand for now?",
    ),
]
