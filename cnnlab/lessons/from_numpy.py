"""Data come in: `from_numpy` shares memory, `tensor` copies.

Stands on: school arithmetic.

Measurements arrive as numpy arrays, and torch computes with tensors. There are two ways across:

    `torch.from_numpy(a)`   a second name for the same numbers: change one, and the other has changed
    `torch.tensor(a)`       numbers of its own

Sharing costs nothing, however large the array is, and surprises whoever goes on writing into it. A change
of type ends it, for other numbers need other memory: numpy computes with 64 bits, a network with 32, so
in `torch.from_numpy(a).float()` nothing is shared any more. `view` and `reshape` on the other hand only
look at the same numbers in another shape.

Question: "The returned tensor is not resizable", says the manual. What does that mean?
Answer: A tensor with memory of its own can be made larger in place, with `resize_`. Memory that belongs to
numpy cannot: torch refuses, with the message above. `reshape`, `view` and slices all work, for
they need no more memory.

Question: The notes wrap everything in `Variable(...)`. Do I have to?
Answer: No. Since torch 0.4 a tensor can have a gradient itself, and `Variable(x)` returns `x` as a tensor.

On real data: the seventeen points of the next lesson, which cnnlab holds as tensors.

    cnnlab train experiment=linear_regression
"""

from __future__ import annotations

import numpy as np
import torch

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Figure, Parts, Table, Values


def compute(*, first: float = -1.0) -> Values:
    a = np.array([1.0, 2.0, 3.0])
    shared, copied, converted = torch.from_numpy(a), torch.tensor(a), torch.from_numpy(a).float()
    shared[0] = first
    column = shared.view(3, 1)
    column[2] = 10
    try:
        torch.from_numpy(a.copy()).resize_(6)
        refusal = "nothing"
    except RuntimeError as error:
        refusal = str(error).partition("\n")[0]
    return {
        "array": a,
        "from_numpy": shared,
        "tensor": copied,
        "float": converted,
        "dtypes": {"from_numpy": str(shared.dtype), "tensor": str(copied.dtype), "float": str(converted.dtype)},
        "refusal": refusal,
    }


def show(values: Values) -> Parts:
    first, _, last = values["array"].tolist()
    rows = [["a, the array", "", str(values["array"].tolist())]]
    for name, call in (("from_numpy", "from_numpy(a)"), ("tensor", "tensor(a)"), ("float", "from_numpy(a).float()")):
        rows.append([f"`{call}`", values["dtypes"][name], str(values[name].tolist())])
    return [
        f"a was [1, 2, 3]. Through from_numpy(a) the first entry was set to {first:g}, through its view(3, 1) the last "
        f"to {last:g}. Afterwards:",
        Table(["", "type", "numbers"], rows),
        f"Asked for `resize_(6)`, torch says: {values['refusal']}",
    ]


def draw(values: Values, figure: Figure) -> None:
    figure.set_figheight(2.4)
    axes = figure.subplots()
    axes.set(xlim=(-0.2, 8.8), ylim=(-0.6, 3.2))
    axes.set_axis_off()
    boxes = {"array": (0.2, "memory of a"), "tensor": (4.8, "memory of tensor(a)")}
    for name, (x, label) in boxes.items():
        for i, entry in enumerate(values[name].tolist()):
            axes.plot([x + i, x + i + 1, x + i + 1, x + i, x + i], [0, 0, 1, 1, 0], color="#555555", linewidth=1)
            axes.text(x + i + 0.5, 0.5, f"{entry:g}", ha="center", va="center")
        axes.text(x, -0.45, label, color="#777777")
    arrow = {"arrowstyle": "-|>", "color": "#c8553d"}
    for text, x, end in (("a", 0.6, 0.8), ("from_numpy(a)", 1.6, 1.8), ("tensor(a)", 5.6, 5.9)):
        axes.annotate(text, (end, 1.05), (x, 2.4 if text != "from_numpy(a)" else 2.0), arrowprops=arrow)


EXERCISES = [
    Exercise(
        "a = np.array([5, 6]); t = torch.from_numpy(a); a[1] = 0. What does t hold? Both numbers.",
        lambda: tuple(_after_a_change_of_a()),
        "t and a are two names for the same memory.",
        slips={(5.0, 6.0): "That would be a copy."},
    ),
    Exercise(
        "And u = torch.from_numpy(a).float(), made before the change: does u change with a? (yes or no)",
        lambda: "no",
        "64 bits have become 32: can that be the same memory?",
    ),
]


def _after_a_change_of_a() -> list[float]:
    a = np.array([5.0, 6.0])
    t = torch.from_numpy(a)
    a[1] = 0
    return t.tolist()
