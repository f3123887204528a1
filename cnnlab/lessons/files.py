"""Reading and writing: a tensor, a list, a dict, a model's parameters.

Stands on: parameters.

`torch.save(object, path)` and `torch.load(path)` work for tensors and for plain containers of them. A
model's parameters are such a container: `state_dict()` is a dict from paths to tensors. To get the
model back, build it from its code and fill it:

    >>> torch.save(net.state_dict(), "net.pt")
    >>> twin = build_net()
    >>> twin.load_state_dict(torch.load("net.pt", weights_only=True))

Question: Why not save the whole model object?
Answer: Because the file would hold a pickle that imports your classes by name: move a file, and old
runs no longer load. Worse, loading a pickle can run any code that its author put there.
`weights_only=True` accepts tensors and plain containers only.

On real data: a run keeps its best parameters in such a file, checkpoints/best.pt.

    cnnlab train dataset=digits
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Count


def round_trip(value: Any) -> tuple[Any, int]:
    """What comes back from a file, and the file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "value.pt"
        torch.save(value, path)
        return torch.load(path, weights_only=True), path.stat().st_size


def compute(*, hidden: Count = 256) -> Values:
    with seeded(0):
        net = nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        twin = nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        x = torch.randn(2, 20)
    y = torch.zeros(4)
    saved = {
        "a tensor": x,
        "a list of tensors": [x, y],
        "a dict of tensors": {"x": x, "y": y},
        "a model's parameters": dict(net.state_dict()),
    }
    loaded = {name: round_trip(value) for name, value in saved.items()}
    before = bool((twin(x) == net(x)).all())
    twin.load_state_dict(loaded["a model's parameters"][0])
    return {
        "saved": saved,
        "loaded": {name: value for name, (value, _) in loaded.items()},
        "sizes": {name: size for name, (_, size) in loaded.items()},
        "equal_before": before,
        "equal_after": bool((twin(x) == net(x)).all()),
    }


def show(values: Values) -> Parts:
    compared = {True: "the same", False: "different"}
    return [
        Table(["saved and read back", "bytes"], [[name, size] for name, size in values["sizes"].items()]),
        f"A second network with other weights gave {compared[values['equal_before']]} outputs before it was "
        f"filled from the file, and {compared[values['equal_after']]} ones, to the last bit, after.",
    ]


EXERCISES = [
    Exercise(
        "What does net.state_dict() hold for nn.ReLU()? The number of entries.",
        lambda: len(nn.ReLU().state_dict()),
        "Which parameters has it?",
    ),
    Exercise(
        "hidden=512 in place of 256: about how many times as large is the file of the model's parameters?",
        lambda: 2,
        "Both weights have hidden as one of their sizes. Or run it.",
        slips={4: "The weights are 20·hidden and hidden·10: each grows once."},
    ),
    Exercise(
        "How many entries has the state_dict() of nn.BatchNorm1d(8)?",
        lambda: len(nn.BatchNorm1d(8).state_dict()),
        "Buffers are saved too: print its names.",
        slips={2: "That is its parameters; there are buffers as well."},
    ),
]
