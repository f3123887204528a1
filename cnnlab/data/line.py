"""Seventeen points near a line: the smallest regression there is, one number fitted to one number.

The points of the course notes' linear regression. An "image" is a single number that stays as it is.
"""

from __future__ import annotations

import torch

from cnnlab.data.dataset import Dataset, Facts, ImageSet
from cnnlab.data.registry import DATASETS
from cnnlab.errors import ConfigError
from cnnlab.tasks import REGRESSION

# fmt: off
X = (3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 5.654, 9.27, 3.1)
Y = (1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 2.42, 2.94, 1.3)
# fmt: on


@DATASETS.register
def line(*, held_out: tuple[float, ...] = (5.654, 9.27)) -> Dataset:
    """17 points (x, y) for regression; those at the x in `held_out` are the test part (none: no such part)."""
    unknown = [x for x in held_out if x not in X]
    if unknown:
        raise ConfigError(f"dataset.held_out: {unknown} is no x of a point; expected some of {', '.join(map(str, X))}")

    def read(part: str) -> ImageSet:
        chosen = [(x, y) for x, y in zip(X, Y, strict=True) if (x in held_out) == (part == "test")]
        points = torch.tensor(chosen)
        return ImageSet.of(points[:, 0].reshape(-1, 1, 1, 1), points[:, 1:])

    parts = ("train", "test") if held_out else ("train",)
    return Dataset(Facts(("y",), channels=1, image_size=1, task=REGRESSION), parts, read)
