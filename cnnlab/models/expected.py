"""What trained weights expect of images: their normalisation, size and interpolation, as far as they tell.

torchvision's published weights tell it in their transforms, timm's in `pretrained_cfg`, a run in its dataset.json. A
file of weights alone tells nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlab.models.backbones import import_timm

FACTS = "dataset.json"  # of a run directory


@dataclass(frozen=True)
class Expected:
    """Mean and standard deviation are of pixels in 0…1, a number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    interpolation: str  # between the pixels of a picture that is resized


def find_expected(name: str, arch: str | None, source: str) -> Expected | None:
    """What the weights `source` expect of images for a network of this `name`; None where they do not tell."""
    path = Path(source)
    if path.exists():
        return read_run(path if path.is_dir() else path.parent.parent)
    if name == "timm":
        assert arch is not None
        told = import_timm().create_model(arch, pretrained=False).pretrained_cfg
        return Expected(tuple(told["mean"]), tuple(told["std"]), told["input_size"][-1], told["interpolation"])
    from torchvision import models

    arch = arch or name
    if arch not in models.list_models(module=models):
        return None
    published = models.get_model_weights(arch).__members__.get(source)
    return published and read_transforms(published.transforms())


def read_transforms(transforms: Any) -> Expected:
    (size,) = {*transforms.crop_size}
    return Expected(tuple(transforms.mean), tuple(transforms.std), size, transforms.interpolation.value)


def read_run(folder: Path) -> Expected | None:
    """Of a run directory; None for any other folder."""
    try:
        told = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return Expected(tuple(told["mean"]), tuple(told["std"]), told["image_size"], "bilinear")
    except (OSError, ValueError, KeyError, TypeError):
        return None
