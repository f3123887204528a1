"""Images: readers (what is on disk) → split → store (uint8 images) → batches (order) → crop → augment → mix.

Importing this package fills `DATASETS`, `CROPS`, `AUGMENTS` and `MIXES`.
"""

from cnnlab.data import augment, cifar, colour, crops, digits, folder, image_csv, kaggle, line, mix, mnist, policies  # noqa: F401
from cnnlab.data.dataset import Competition, Dataset, Facts, ImageSet, Unlabelled
from cnnlab.data.registry import AUGMENTS, CROPS, DATASETS, MIXES

__all__ = ["AUGMENTS", "CROPS", "DATASETS", "MIXES", "Competition", "Dataset", "Facts", "ImageSet", "Unlabelled"]
