"""To the GPU: the network moves, and its images have to follow.

Stands on: block.

A tensor lives on one device, and an operation needs all of its tensors on the same one. So three lines
belong together, and the third stands inside the loop:

    >>> device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    >>> model.to(device)
    >>> images, labels = images.to(device), labels.to(device)

Forgetting the third is a common mistake; the notes' own MNIST program makes it. (The first line they have
once as `torch.cuda is available()`, which Python cannot read; the name has an underscore.) What happens then can
be seen on any machine: torch has a device named `meta`, whose tensors have shapes and no numbers, and
which is just as foreign to the CPU as a GPU is.

Question: Why `model.to(device)` alone, but `images = images.to(device)`?
Answer: A module is moved in place: its parameters are exchanged inside it. A tensor is not; `to`
returns a copy on the new device, and a copy that nobody keeps is lost.

On real data: `cnnlab train` finds the device, moves both, and keeps small data sets there whole.

    cnnlab train dataset=digits engine.device=cpu
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.errors import ConfigError
from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Table, Values, number


def compute(*, device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> Values:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device != "auto" and not available[device]:
        raise ConfigError(f"device: this machine has no {device}; device=auto takes what it has")
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"

    with seeded(0):
        model = nn.Linear(64, 10)
        images, labels = torch.randn(8, 64), torch.arange(8)
    on_cpu = model(images)
    model.to(device)
    on_device = model(images.to(device))

    model.to("meta")
    try:
        F.cross_entropy(model(images), labels)
        refusal = "nothing"
    except RuntimeError as error:
        refusal = str(error).partition("\n")[0]
    return {
        "available": available,
        "device": device,
        "difference": (on_cpu - on_device.cpu()).abs().max().item(),
        "weight_moved": model.weight.device.type,
        "images_stayed": images.device.type,
        "refusal": refusal,
    }


def show(values: Values) -> Parts:
    return [
        Table(
            ["device", "here"],
            [[name, "yes" if there else "no"] for name, there in values["available"].items()],
        ),
        f"This run took {values['device']}. Outputs of one layer computed there and on the CPU differ by "
        f"at most {number(values['difference'])}.",
        f"After model.to('meta') the weight is on {values['weight_moved']} and the images are still on "
        f"{values['images_stayed']}. torch says: {values['refusal']}",
    ]


def _is_kept() -> bool:
    images = torch.zeros(1)
    return images.to("cpu") is images


EXERCISES = [
    Exercise(
        "images is on the CPU already. How many copies does images.to('cpu') make?",
        lambda: 0 if _is_kept() else 1,
        "Is images.to('cpu') is images true? Try it.",
    ),
    Exercise(
        "Which of the two does .to(device) change in place, a model or a tensor? One word.",
        lambda: "model",
        "A module exchanges its parameters inside it.",
    ),
]
