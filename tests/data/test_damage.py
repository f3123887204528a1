"""Each reader on damaged files: the right values or a DataError, and no wrong values where there is a checksum."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.data import DATASETS
from cnnlab.data.cifar import _read_binary, _read_pickle
from cnnlab.data.digits import read_counts
from cnnlab.data.kaggle import check_pixel_table, read_pixel_table
from cnnlab.data.mnist import read_idx
from cnnlab.data.pack import open_pack
from cnnlab.data.pictures import PictureDecoder, read_picture
from cnnlab.data.tables import Table, read_labels
from cnnlab.errors import ConfigError, DataError
from tests.conftest import build_from
from tests.data.damage import FEW, MANY, damage
from tests.data.files import write_cifar, write_idx

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow's, about metadata
NUMS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]
RNG = np.random.default_rng(0)
PIXELS = np.asarray(Image.fromarray(RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((20, 16)))


def try_all(path: Path, read: Callable[[Path], object], num: int) -> list[object]:
    """What is read of the file damaged in many ways, where it is read; whatever but DataError passes through."""
    content, found = path.read_bytes(), []
    for changed in damage(content, num):
        path.write_bytes(changed)
        try:
            found.append(read(path))
        except DataError as error:
            assert path.stem in str(error)
    assert len(found) < num  # some were refused
    return found


@pytest.mark.parametrize("num", NUMS)
def test_idx(tmp_path, num):
    values = torch.from_numpy(RNG.integers(0, 256, (30, 8, 9), dtype=np.uint8))
    write_idx(tmp_path / "x", values)
    for read in try_all(tmp_path / "x", read_idx, num):
        assert read.dtype == torch.uint8 and read.numel() <= values.numel() + 4096
    write_idx(tmp_path / "x.gz", values)
    for read in try_all(tmp_path / "x.gz", read_idx, num):
        assert torch.equal(read, values)  # gzip has a checksum


def test_an_idx_file_that_promises_more_than_there_is_asks_for_no_memory(tmp_path):
    for name, write in (("x", Path.write_bytes), ("x.gz", lambda path, data: path.write_bytes(gzip.compress(data)))):
        for header in (b"\0\0\x08\x03" + b"\xff" * 12, b"\0\0\x08\xff" + b"\x02" * 1020):
            write(tmp_path / name, header + bytes(100))
            with pytest.raises(DataError, match="promises|has 255 dimensions"):
                read_idx(tmp_path / name)


@pytest.mark.parametrize("num", NUMS)
def test_cifar(tmp_path, num):
    write_cifar(tmp_path, "", num=4)
    write_cifar(tmp_path, ".bin", num=4)
    for name, reader in (("test_batch", _read_pickle), ("test_batch.bin", _read_binary)):
        for pixels, labels in try_all(tmp_path / name, reader, num):
            assert pixels.shape == (len(labels), 3072) and pixels.dtype == torch.uint8
            assert labels.min() >= 0 and labels.max() < 10


@pytest.mark.parametrize(
    "labels", [[-1, 2], [0.5, 1.0], [], [10**30, 1], ["a", "b"], [[1, 2], [3, 4]], None, [True, False], [2, 11]]
)
def test_cifar_labels_that_are_none(tmp_path, labels):
    content = {b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": labels}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match="test_batch"):
        _read_pickle(tmp_path / "test_batch")


@pytest.mark.parametrize("num", NUMS)
def test_the_embedded_digits(num):
    content = (files("cnnlab.data") / "digits.npz").read_bytes()
    images, labels = read_counts(io.BytesIO(content))
    num_refused = 0
    for changed in damage(content, num):
        try:
            read = read_counts(io.BytesIO(changed))
        except DataError:
            num_refused += 1
        else:
            assert torch.equal(read[0], images) and torch.equal(read[1], labels)
    assert num_refused > num / 2


FORMATS = {
    "png": {}, "jpg": {"quality": 90}, "gif": {}, "webp": {}, "bmp": {}, "tif": {}, "ppm": {},
    "tiff": {"compression": "tiff_lzw"},
}  # fmt: skip


@pytest.mark.parametrize("num", NUMS)
@pytest.mark.parametrize("ending", FORMATS)
def test_pictures(tmp_path, ending, num, capfd):
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(PIXELS).save(path, **FORMATS[ending])
    whole = read_picture(path, grey=False)
    for image in try_all(path, lambda path: read_picture(path, grey=False), num):
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        if ending == "png":  # of these formats the one with checksums
            assert np.array_equal(image, whole)


@pytest.mark.parametrize("num", NUMS)
@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "LA"])
def test_other_pngs(tmp_path, mode, num):
    path = tmp_path / "picture.png"
    Image.fromarray(PIXELS).convert(mode).save(path)
    whole = read_picture(path, grey=True)
    for image in try_all(path, lambda path: read_picture(path, grey=True), num):
        assert np.array_equal(image, whole)


@pytest.mark.parametrize("num", NUMS)
def test_tables_of_labels(tmp_path, num):
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "what, exactly"], *[[f"{index:04}", f'a "{index % 3}"'] for index in range(40)]]
        )

    def read(path: Path) -> dict[str, str]:
        problems: list[str] = []
        told = read_labels(path, Table(path.name, label_column="what, exactly"), problems)
        assert all(path.name in problem for problem in problems)
        if problems:
            raise DataError(problems[0])
        return {name: told.classes[label] for name, label in told.labels.items()}

    for labels in try_all(path, read, num):
        assert all(name and label and "\0" not in name + label for name, label in labels.items())


@pytest.mark.parametrize("num", NUMS)
def test_tables_of_pixels(tmp_path, num):
    path, columns = tmp_path / "train.csv", ["label", "a", "b", "c"]
    values = RNG.integers(0, 256, (20, 4))
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in values)]))

    def read(path: Path) -> torch.Tensor:
        problems: list[str] = []
        check_pixel_table(path, columns, problems)
        if problems:
            raise DataError(problems[0])
        return read_pixel_table(path)

    for rows in try_all(path, read, num):
        assert rows.dtype == torch.uint8 and rows.shape[1] == 4


@pytest.mark.parametrize("num", NUMS)
def test_samples_of_submissions(tmp_path, num):
    (tmp_path / "test.csv").write_text(",".join(f"pixel{index}" for index in range(784)) + "\n" + ",".join(["0"] * 784))
    (tmp_path / "train.csv").write_text(
        ",".join(["label", *(f"pixel{index}" for index in range(784))]) + "\n" + ",".join(["1"] * 785)
    )
    path = tmp_path / "sample_submission.csv"
    path.write_text("ImageId,Label\n1,0\n")

    def read(path: Path) -> object:
        return build_from(DATASETS, {"name": "digit_recognizer", "root": str(tmp_path)}).competition

    for competition in try_all(path, read, num):
        assert competition.sample == path


@pytest.mark.parametrize("num", NUMS)
@pytest.mark.parametrize("resize", [None, 12])
def test_packs(tmp_path, resize, num, capsys):
    """A damaged pack is told and made anew: the file is the same again, whatever had become of it."""
    paths = []
    for index in range(6):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(PIXELS[: 10 + index]).save(paths[-1])
    decoder, folder = PictureDecoder(8, resize), tmp_path / ".cnnlab"
    open_pack(paths, "train", decoder, [folder])
    (pack,) = folder.iterdir()
    content = pack.read_bytes()
    for changed in damage(content, num):
        pack.write_bytes(changed)
        capsys.readouterr()
        open_pack(paths, "train", decoder, [folder], verify=True)
        assert pack.read_bytes() == content


@pytest.mark.parametrize("num", NUMS)
def test_configurations_of_pictures_that_cannot_be(num):
    """Sizes that users type: the bound is told, whatever the dataset."""
    draw = random.Random(0)
    for name in ("digits", "mnist", "cifar10", "image_folder", "image_csv", "kaggle_cifar10", "dog_breeds"):
        size = draw.choice([0, -1, 8193, 999_999_999, 10**21])
        given = {"name": name, "image_size": size, **({} if name in ("digits", "mnist", "cifar10") else {"root": "x"})}
        component, problems = DATASETS.parse("dataset", given)
        assert component is None
        assert problems == [f"dataset.image_size: {size} was given; expected int at least 1 and at most 8,192"]


def test_more_images_than_memory_are_refused_before_it_is_asked_for():
    with pytest.raises(ConfigError, match=r"1,797 images of that size need 120.6 GB .* expected at most \d,\d\d\d"):
        build_from(DATASETS, {"name": "digits", "image_size": 8192}).read("train")
