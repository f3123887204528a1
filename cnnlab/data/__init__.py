"""Images: readers (what is on disk) → split → store (uint8 images) → batches (order) → augment → mix.

Importing this package fills `DATASETS`, `AUGMENTS` and `MIXES`.
"""

from cnnlab.data import augment, cifar, colour, digits, folder, line, mix, mnist, policies  # noqa: F401
from cnnlab.data.registry import AUGMENTS, DATASETS, MIXES, Competition, Dataset, ImageSet, Unlabelled

__all__ = ["AUGMENTS", "DATASETS", "MIXES", "Competition", "Dataset", "ImageSet", "Unlabelled"]
