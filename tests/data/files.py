"""Small files in the published formats."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def write_idx(path: Path, values: torch.Tensor) -> None:
    """uint8 values as an IDX file, gzipped if the name ends in .gz."""
    header = struct.pack(f">HBB{values.dim()}I", 0, 8, values.dim(), *values.shape)
    content = header + values.numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, ending: str = "", num_train: int = 60, num_test: int = 20) -> None:
    """Four files in MNIST's names: digit k is a bright square at a height of its own, so that it can be learned."""
    for name, num in (("train", num_train), ("t10k", num_test)):
        labels = torch.arange(num) % 10
        images = torch.zeros(num, 28, 28, dtype=torch.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[2 * label : 2 * label + 6, 4:20] = 200
        write_idx(folder / f"{name}-images-idx3-ubyte{ending}", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte{ending}", labels.to(torch.uint8))


def write_cifar(folder: Path, ending: str, num: int = 20) -> torch.Tensor:
    """Six batches of `num` images; returns all of them in order, (6·num, 3, 32, 32)."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, num, 3072), dtype=torch.uint8, generator=generator)
    labels = (torch.arange(num) % 10).to(torch.uint8)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for name, batch in zip(names, pixels, strict=True):
        if ending:
            rows = torch.cat([labels.unsqueeze(1), batch], dim=1)
            (folder / (name + ending)).write_bytes(rows.numpy().tobytes())
        else:
            content = {b"data": np.ascontiguousarray(batch.numpy()), b"labels": labels.tolist()}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return pixels.view(-1, 3, 32, 32)


def write_photographs(folder: Path, num: int, width: int, height: int, classes: tuple[str, ...] = ("a", "b")) -> None:
    """JPEG files of about the entropy of photographs: colours that change slowly, edges, and the grain of a camera.

    A picture is noise of five sizes of grain, from a sixteenth of its width to a pixel, the finer the weaker.
    """
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
    for number in range(num):
        pixels = np.zeros((height, width, 3), dtype=np.float32)
        for grain, contrast in ((16, 80.0), (8, 40.0), (4, 20.0), (2, 10.0), (1, 6.0)):
            shape = (-(-height // grain), -(-width // grain), 3)
            noise = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).resize((width, height))
            pixels += (np.asarray(noise, dtype=np.float32) / 127.5 - 1) * contrast
        picture = Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8))
        picture.save(folder / classes[number % len(classes)] / f"{number}.jpg", quality=90)
