"""Readers: what is right is read exactly, what is torn or foreign is refused with its file's name."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from cnnlab.data import DATASETS
from cnnlab.data.mnist import read_idx
from cnnlab.data.resize import resize
from cnnlab.errors import DataError
from tests.conftest import build_from
from tests.data.files import write_cifar, write_idx, write_mnist


def build(name: str, **arguments):
    return build_from(DATASETS, {"name": name, **arguments})


# --- digits -------------------------------------------------------------------------------------------


def test_digits_are_the_published_ones():
    digits = build("digits", image_size=8).read("train")
    assert digits.store.tensor.shape == (1797, 8, 8, 1)
    # The first image of the published file, in counts of 0 to 16.
    counts = (digits.store.tensor[0, :, :, 0].float() * 16 / 255).round().int()
    assert counts[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert int(counts.sum()) == 294
    assert digits.labels[:10].tolist() == list(range(10))
    assert torch.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# --- IDX ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("inside", [".", "MNIST/raw"])
def test_idx_plain_or_packed_from_any_folder(tmp_path, ending, inside):
    write_mnist(tmp_path / inside, ending)
    dataset = build("mnist", root=str(tmp_path), download=False)
    train, test = dataset.read("train"), dataset.read("test")
    assert train.store.tensor.shape == (60, 28, 28, 1) and len(test) == 20
    assert train.store.tensor[3, 6:12, 4:20].eq(200).all() and int(train.store.tensor[3].sum()) == 200 * 6 * 16
    assert train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_a_torn_idx_file_is_named(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: its header promises 47,040 bytes .* only 46,940"):
        build("mnist", root=str(tmp_path)).read("train")


@pytest.mark.parametrize("keep", [3, 7, 200])
def test_a_torn_gz_file_is_named(tmp_path, keep):
    path = tmp_path / "x.gz"
    write_idx(path, torch.randint(0, 256, (50, 28, 28), dtype=torch.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="x.gz: ends early or is damaged"):
        read_idx(path)


def test_foreign_and_mismatched_files_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(DataError, match="not an IDX file"):
        read_idx(tmp_path / "x")
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", torch.zeros(59, dtype=torch.uint8))
    with pytest.raises(DataError, match="do not belong together"):
        build("mnist", root=str(tmp_path)).read("train")


def test_missing_files_are_named_with_the_folder_and_the_remedy(tmp_path):
    with pytest.raises(DataError) as error:
        build("mnist", root=str(tmp_path), download=False).read("train")
    for part in (str(tmp_path), "train-images-idx3-ubyte[.gz]", "t10k-labels-idx1-ubyte[.gz]", "dataset.root=FOLDER"):
        assert part in str(error.value)


# --- CIFAR-10 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "ending"), [("cifar-10-batches-py", ""), ("cifar-10-batches-bin", ".bin"), (".", "")]
)
def test_cifar_as_published(tmp_path, folder, ending):
    pixels = write_cifar(tmp_path / folder, ending)
    dataset = build("cifar10", root=str(tmp_path), download=False)
    train, test = dataset.read("train"), dataset.read("test")
    assert torch.equal(train.store.tensor.permute(0, 3, 1, 2), pixels[:100])
    assert torch.equal(test.store.tensor.permute(0, 3, 1, 2), pixels[100:])
    assert train.labels[:3].tolist() == [0, 1, 2]


def test_torn_cifar_files_are_named(tmp_path):
    for folder, ending in (("a", ""), ("b", ".bin")):
        write_cifar(tmp_path / folder, ending)
        path = tmp_path / folder / f"data_batch_3{ending}"
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(DataError, match="data_batch_3"):
            build("cifar10", root=str(tmp_path / folder)).read("train")


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_code_in_a_cifar_file_is_not_run(tmp_path):
    write_cifar(tmp_path, "")
    (tmp_path / "test_batch").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(DataError, match=r"test_batch.*wants to call builtins.exec"):
        build("cifar10", root=str(tmp_path)).read("test")


# --- image_folder -------------------------------------------------------------------------------------


def write_pictures(folder: Path, num: int, brightness: int, size: tuple[int, int] = (20, 30)) -> None:
    folder.mkdir(parents=True)
    for number in range(num):
        Image.new("RGB", size, (brightness + number,) * 3).save(folder / f"{number}.png")


def test_a_folder_a_class(tmp_path):
    write_pictures(tmp_path / "cat", 3, 10)
    write_pictures(tmp_path / "dog", 2, 200)
    (tmp_path / "notes").mkdir()  # no picture: no class
    dataset = build("image_folder", root=str(tmp_path), image_size=16)
    assert dataset.facts.classes == ("cat", "dog") and dataset.parts == ("train",)
    images = dataset.read("train")
    assert images.store.tensor.shape == (5, 16, 16, 3)
    assert images.store.tensor[:, 0, 0, 0].tolist() == [10, 11, 12, 200, 201]
    assert images.labels.tolist() == [0, 0, 0, 1, 1]


def test_parts_of_their_own(tmp_path):
    for part, num in (("train", 3), ("test", 1)):
        write_pictures(tmp_path / part / "cat", num, 10)
        write_pictures(tmp_path / part / "dog", num, 100)
    dataset = build("image_folder", root=str(tmp_path), grey=True)
    assert dataset.parts == ("train", "test") and dataset.facts.channels == 1
    assert len(dataset.read("test")) == 2
    write_pictures(tmp_path / "test" / "fox", 1, 50)
    with pytest.raises(DataError, match=r"test/: classes that train/ does not have \(1\): fox; its own are cat, dog"):
        build("image_folder", root=str(tmp_path))


def test_the_notes_tree(tmp_path):
    for part in ("train", "valid", "train_valid"):
        for name in ("cat", "dog"):
            write_pictures(tmp_path / part / name, 11, 10)
    write_pictures(tmp_path / "test" / "unknown", 12, 50)
    dataset = build("image_folder", root=str(tmp_path))
    assert dataset.parts == ("train", "valid") and len(dataset.read("valid")) == 22
    unlabelled = dataset.unlabelled()
    assert unlabelled.ids == tuple(str(number) for number in range(12))
    assert unlabelled.open(10, 64)[0, 0].tolist() == [60, 60, 60]
    write_pictures(tmp_path / "test" / "cat", 1, 10)
    assert build("image_folder", root=str(tmp_path)).parts == ("train", "valid", "test")


def test_pictures_outside_any_class_are_named(tmp_path):
    write_pictures(tmp_path / "cat", 3, 10)
    Image.new("RGB", (5, 5)).save(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"pictures outside the folders of the classes \(1\): stray.png"):
        build("image_folder", root=str(tmp_path))


def test_shorter_side_resized_then_the_centre(tmp_path):
    (tmp_path / "cat").mkdir()
    write_pictures(tmp_path / "dog", 1, 0)
    half = Image.new("RGB", (120, 60))
    half.paste((255, 255, 255), (0, 0, 60, 60))  # the left half is white
    half.save(tmp_path / "cat" / "half.png")
    images = build("image_folder", root=str(tmp_path), image_size=20, resize=30).read("train").store
    image = images.take_centres(torch.tensor([0]))[0]
    assert image.shape == (20, 20, 3)
    assert image[:, :9].eq(255).all() and image[:, 11:].eq(0).all()
    whole = build("image_folder", root=str(tmp_path), image_size=60).read("train").store.tensor[0]
    assert whole[:, :30].eq(255).all() and whole[:, 30:].eq(0).all()


def test_every_broken_picture_is_named(tmp_path):
    write_pictures(tmp_path / "cat", 3, 10)
    write_pictures(tmp_path / "dog", 1, 10)
    (tmp_path / "cat" / "empty.jpg").write_bytes(b"")
    (tmp_path / "cat" / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"(?s)2 pictures cannot be decoded.*empty.jpg.*text.png"):
        build("image_folder", root=str(tmp_path)).read("train")


@pytest.mark.parametrize("inside", ["nowhere", "."])
def test_a_missing_or_empty_folder(tmp_path, inside):
    with pytest.raises(DataError, match="expected one"):
        build("image_folder", root=str(tmp_path / inside))


# --- resize -------------------------------------------------------------------------------------------


def test_resize_equals_torchvisions():
    from torchvision.transforms.v2 import functional as F

    images = torch.randint(0, 256, (3, 10, 10, 3), dtype=torch.uint8)
    expected = F.resize(images.permute(0, 3, 1, 2).float(), [23, 23], antialias=True)
    assert (resize(images, 23).permute(0, 3, 1, 2).float() - expected).abs().max() <= 0.5
    assert resize(images, 10) is images
