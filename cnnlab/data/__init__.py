"""Images: readers (what is on disk) → split → store (uint8 images) → batches (order) → augment.

Importing this package fills `DATASETS` and `AUGMENTS`.
"""

from cnnlab.data import augment, cifar, digits, folder, image_csv, kaggle, line, mnist  # noqa: F401
from cnnlab.data.registry import AUGMENTS, DATASETS, Competition, Dataset, ImageSet, Unlabelled

__all__ = ["AUGMENTS", "DATASETS", "Competition", "Dataset", "ImageSet", "Unlabelled"]
