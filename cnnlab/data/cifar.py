"""CIFAR-10: the five training batches and the test batch, as published for Python or as binaries.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.data.dataset import Dataset, Facts, ImageSet, Side
from cnnlab.data.download import download_or_explain
from cnnlab.data.registry import DATASETS
from cnnlab.data.resize import resize
from cnnlab.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {
    "train": [f"data_batch_{number}" for number in range(1, 6)],
    "test": ["test_batch"],
}
SIZE = 32
ROW = 3 * SIZE * SIZE  # bytes an image: red plane, green plane, blue plane


@DATASETS.register
def cifar10(*, root: str = "data", download: bool = True, image_size: Side = SIZE) -> Dataset:
    """50,000 + 10,000 photographs, 32×32 RGB, ten classes; `cifar-10-batches-py` or `-bin` under `root`."""
    folders = [Path(root, "cifar-10-batches-py"), Path(root, "cifar-10-batches-bin"), Path(root)]

    def fetch() -> None:
        from torchvision import datasets

        datasets.CIFAR10(root, download=True)

    def find() -> tuple[Path, str] | None:
        """The first folder that has all six files, and their ending."""
        for folder in folders:
            for ending in ("", ".bin"):
                if all((folder / (name + ending)).is_file() for names in FILES.values() for name in names):
                    return folder, ending
        return None

    def read(part: str) -> ImageSet:
        found = find()
        if found is None:
            names = [name for names in FILES.values() for name in names]
            download_or_explain(fetch if download else None, folders, names)
            found = find()
            assert found is not None, "a download that succeeds leaves the files where they are looked for"
        folder, ending = found
        read_file = _read_binary if ending else _read_pickle
        batches = [read_file(folder / (name + ending)) for name in FILES[part]]
        images = torch.empty(sum(len(labels) for _, labels in batches), SIZE, SIZE, 3, dtype=torch.uint8)
        for target, (pixels, _) in zip(images.split([len(b[1]) for b in batches]), batches, strict=True):
            target.copy_(pixels.view(-1, 3, SIZE, SIZE).permute(0, 2, 3, 1))
        return ImageSet.of(resize(images, image_size), torch.cat([labels for _, labels in batches]).long())

    # Mean and standard deviation of the 50,000 training images.
    facts = Facts(CLASSES, 3, image_size, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return Dataset(facts, tuple(FILES), read)


def _read_binary(path: Path) -> tuple[Tensor, Tensor]:
    """Rows of 1 label byte and 3,072 pixel bytes."""
    try:
        stored = bytearray(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(stored) == 0 or len(stored) % (1 + ROW):
        raise DataError(
            f"{path}: {len(stored):,} bytes is no whole number of rows of {1 + ROW:,}; "
            "it is torn: delete it and get it again"
        )
    rows = torch.frombuffer(stored, dtype=torch.uint8).view(-1, 1 + ROW)
    return _checked(path, rows[:, 1:], rows[:, 0])


class _ArraysOnly(pickle.Unpickler):
    """Reads the published batches, which are arrays and lists, and refuses any code."""

    ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"),
               ("numpy._core.multiarray", "_reconstruct"), ("_codecs", "encode")}  # fmt: skip

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_pickle(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        return _checked(path, torch.from_numpy(batch[b"data"]), torch.tensor(batch[b"labels"]))
    except DataError:
        raise
    except Exception as error:  # whatever a damaged file makes of an unpickler
        raise DataError(
            f"{path}: not a whole CIFAR-10 batch ({type(error).__name__}: {error}); delete it and get it again"
        ) from error


def _checked(path: Path, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    fits = pixels.dtype == torch.uint8 and labels.dim() == 1 and pixels.shape == (len(labels), ROW)
    fits = fits and len(labels) > 0 and not labels.is_floating_point() and labels.dtype != torch.bool
    if not fits or int(labels.min()) < 0 or int(labels.max()) >= len(CLASSES):
        raise DataError(
            f"{path}: holds pixels {tuple(pixels.shape)} and labels {tuple(labels.shape)}; expected "
            f"N×{ROW} bytes and N labels from 0 to {len(CLASSES) - 1}; delete it and get it again"
        )
    return pixels, labels
