"""The registries that this package fills."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from cnnlab.registry import Registry


class Draw(Protocol):
    """Call it for uniform numbers in [0, 1) of shape (N, num_values), a row an image; each call gives others."""

    @property
    def epoch(self) -> int: ...

    def __call__(self, num_values: int) -> Tensor: ...

    def once(self, num_values: int) -> Tensor:
        """Numbers that are the image's own: the same in each epoch."""
        ...


@dataclass(frozen=True)
class ForEveryDataset:
    """Keys that stand beside any dataset's own."""

    task: Literal["multiclass", "binary"] | None = None  # of a dataset with two classes; None: as the dataset says
    # By the training images' own mean and std, ImageNet's, the course notes' for CIFAR-10, or a given "mean" and "std";
    # "model": those that model.weights tell; None: these if there are weights that do, else as the dataset says.
    normalize: Literal["auto", "imagenet", "course", "model"] | dict[str, list[float]] | None = None

    # The new name of a class, by its old one; None: its images are left out.
    label_map: dict[str | int, str | int | None] = field(default_factory=dict)

    def find_problems(self) -> list[str]:
        given = self.normalize
        if not isinstance(given, dict):
            return []
        if (
            set(given) != {"mean", "std"}
            or len(given["mean"]) != len(given["std"])
            or min(given["std"], default=0) <= 0
        ):
            return [
                f"normalize: {given} was given; expected {{mean: [a number a channel], std: [as many above 0]}}, of "
                "pixels between 0 and 1"
            ]
        return []


DATASETS = Registry("dataset", shared=ForEveryDataset)

# What is cut out of each image, before any augmentation: see `crops.py`.
CROPS: Registry[None] = Registry("crop", supplied=("sizes", "draw"))

# An augmentation is handed a batch and a source of random numbers: see `augment.py`.
AUGMENTS: Registry[None] = Registry("augment", supplied=("images", "draw"))

# What makes one image of two, after every augmentation: see `mix.py`.
MIXES: Registry[None] = Registry("mix", supplied=("images", "partners", "rng"))
