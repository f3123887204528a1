"""MNIST and Fashion-MNIST: four IDX files, plain or .gz, from any folder.

LeCun, Cortes & Burges, "The MNIST database of handwritten digits"; Xiao, Rasul & Vollgraf,
"Fashion-MNIST" (arXiv:1708.07747). The format: two zero bytes, a type byte (8: unsigned byte), the
number of dimensions, each dimension as a big-endian 32-bit integer, then the bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.data.dataset import Dataset, Facts, ImageSet, Side
from cnnlab.data.download import download_or_explain
from cnnlab.data.registry import DATASETS
from cnnlab.data.resize import resize
from cnnlab.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 8
MAX_DIMENSIONS = 4
MAX_RATIO = 1100  # by which gzip can make bytes fewer: 1,032 times at most
PIECE = 1 << 20  # bytes read at a time

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_DEBIAN = "/usr/share/datasets/fashion-mnist"  # where Debian's dataset-fashion-mnist puts the files


@DATASETS.register
def mnist(*, root: str = "data", download: bool = True, image_size: Side = 28) -> Dataset:
    """60,000 + 10,000 handwritten digits, 28×28 grey, ten classes."""
    return _idx_dataset(
        classes=tuple(str(digit) for digit in range(10)),
        folders=[Path(root), Path(root, "MNIST", "raw")],
        fetch=(lambda: _torchvision("MNIST", root)) if download else None,
        image_size=image_size,
        mean=0.1307,
        std=0.3081,
    )


@DATASETS.register
def fashion_mnist(*, root: str = "data", download: bool = True, image_size: Side = 28) -> Dataset:
    """60,000 + 10,000 articles of clothing, 28×28 grey, ten classes."""
    return _idx_dataset(
        classes=FASHION_CLASSES,
        folders=[Path(root), Path(root, "FashionMNIST", "raw"), Path(FASHION_DEBIAN)],
        fetch=(lambda: _torchvision("FashionMNIST", root)) if download else None,
        image_size=image_size,
        mean=0.2860,
        std=0.3530,
    )


def _torchvision(name: str, root: str) -> None:
    from torchvision import datasets

    getattr(datasets, name)(root, download=True)


def _idx_dataset(
    classes: tuple[str, ...],
    folders: list[Path],
    fetch: Callable[[], None] | None,
    image_size: int,
    mean: float,
    std: float,
) -> Dataset:
    wanted = [name for pair in FILES.values() for name in pair]

    def find() -> dict[str, Path] | None:
        """The four files by name, plain before .gz, all from the first folder that has them all."""
        for folder in folders:
            found = {}
            for name in wanted:
                paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
                if paths:
                    found[name] = paths[0]
            if len(found) == len(wanted):
                return found
        return None

    def read(part: str) -> ImageSet:
        paths = find()
        if paths is None:
            download_or_explain(fetch, folders, [f"{name}[.gz]" for name in wanted])
            paths = find()
            assert paths is not None, "a download that succeeds leaves the files where they are looked for"
        images_name, labels_name = FILES[part]
        images = read_idx(paths[images_name])
        labels = read_idx(paths[labels_name])
        if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels) or 0 in images.shape[1:]:
            raise DataError(
                f"{paths[images_name]} holds {tuple(images.shape)} and {paths[labels_name]} "
                f"{tuple(labels.shape)}; expected N×H×W images and N labels: the files do not belong together"
            )
        if len(labels) == 0 or int(labels.max()) >= len(classes):
            raise DataError(
                f"{paths[labels_name]}: expected labels from 0 to {len(classes) - 1}, found "
                f"{int(labels.max()) if len(labels) else 'none'}; this is not the dataset that it is named for"
            )
        return ImageSet.of(resize(images.unsqueeze(-1), image_size), labels.long())

    return Dataset(Facts(classes, 1, image_size, (mean,), (std,)), tuple(FILES), read)


def _read_into(file: gzip.GzipFile | BufferedReader, values: Tensor) -> int:
    """Fill `values` from a file, piece by piece, so that the bytes are never held twice; how many there were."""
    memory = values.numpy().data
    num_read = 0
    while num_read < len(memory):
        piece = file.read(min(PIECE, len(memory) - num_read))
        if not piece:
            break
        memory[num_read : num_read + len(piece)] = piece
        num_read += len(piece)
    return num_read


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in an IDX file. Raises DataError if the file is torn or is something else."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zeros, kind, num_dims = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != UNSIGNED_BYTE:
                raise DataError(f"{path}: not an IDX file of unsigned bytes; get the published file again")
            if num_dims > MAX_DIMENSIONS:
                raise DataError(f"{path}: has {num_dims} dimensions; expected 3 of images or 1 of labels")
            shape = struct.unpack(f">{num_dims}I", file.read(4 * num_dims))
            # Before memory is asked for: what is promised must fit into the file.
            size = path.stat().st_size
            most = size * MAX_RATIO if path.suffix == ".gz" else size - file.tell()
            if math.prod(shape) > most:
                raise DataError(
                    f"{path}: its header promises {math.prod(shape):,} bytes of data and the file can have only "
                    f"{most:,}; it is torn: delete it and get it again"
                )
            values = torch.empty(math.prod(shape), dtype=torch.uint8)
            num_read = _read_into(file, values)
            if num_read != len(values) or file.read(1):
                found = f"only {num_read:,}" if num_read != len(values) else "more"
                raise DataError(
                    f"{path}: its header promises {len(values):,} bytes of data and the file has {found}; "
                    "it is torn: delete it and get it again"
                )
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: ends early or is damaged ({error}); delete it and get it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return values.view(shape)
