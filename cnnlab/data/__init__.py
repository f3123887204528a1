"""Images: readers (what is on disk) → split → store (uint8 images) → batches (order) → crop → augment.

Importing this package fills `DATASETS`, `CROPS` and `AUGMENTS`.
"""

from cnnlab.data import augment, cifar, crops, digits, folder, line, mnist  # noqa: F401
from cnnlab.data.registry import AUGMENTS, CROPS, DATASETS, Competition, Dataset, ImageSet, Unlabelled

__all__ = ["AUGMENTS", "CROPS", "DATASETS", "Competition", "Dataset", "ImageSet", "Unlabelled"]
