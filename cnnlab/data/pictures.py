"""Picture files: how one is decoded, and how many of them are a dataset."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from cnnlab.data.appearance import show
from cnnlab.data.dataset import Competition, Dataset, Facts, ImageSet, Pictures, Unlabelled
from cnnlab.data.decoders import PNG, decode_plain_jpeg, decode_plain_png, encode_jpeg, is_plain_jpeg, list_chunks
from cnnlab.data.files import read_regular, require_regular, tell_missing
from cnnlab.data.pack import cache_folders, choose_pack, open_pack
from cnnlab.data.resize import crop_square, resize_picture, resized_shape
from cnnlab.data.store import Store
from cnnlab.distributed import say
from cnnlab.errors import ConfigError, DataError, format_list
from cnnlab.tasks import MULTICLASS, Task

with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
warnings.filterwarnings("ignore", module="PIL")  # remarks on metadata that nobody asked for

ORIENTATION = ExifTags.Base.Orientation
# What turns a picture upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FRAMED = ("GIF", "WEBP", "PNG", "TIFF")  # formats of which one file may hold several pictures
MAX_PIXELS = 1 << 27  # of a picture once it is resized: 400 MB

PackKind = Literal["raw", "jpeg", "auto"]  # pixels, or JPEGs that are decoded whenever they are asked for
OnBadImage = Literal["error", "skip"]  # what happens to a file that cannot be decoded


class UnsoundPictures(DataError):
    """Everything that is wrong with the files, ids and labels of a dataset, found before a picture is opened.

    `files` is what is there nonetheless.
    """

    def __init__(self, root: Path, problems: Sequence[str], files: Mapping[str, Pictures]):
        self.root, self.problems, self.files = root, list(problems), files
        if len(self.problems) == 1:
            super().__init__(f"{root}: {self.problems[0]}")
        else:
            lines = "".join(f"\n  - {problem}" for problem in self.problems)
            super().__init__(f"{root}: {len(self.problems)} problems:{lines}")


# --- Decoding -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PictureDecoder:
    """What becomes of a picture before anything is cut out of it at random.

    Without `resize` a square of `image_size`: the shorter side to that, then the centre. With it the whole picture,
    its shorter side `resize` pixels long, enlarged if it is smaller: the same as torchvision's Resize.
    """

    image_size: int
    resize: int | None = None
    grey: bool = False
    pack: PackKind = "raw"

    def __post_init__(self) -> None:
        if self.pack == "jpeg" and self.resize is None:
            raise ConfigError(
                "dataset.pack: jpeg was given without dataset.resize; expected both, as for crops of whole pictures, "
                "or raw"
            )
        if self.resize is not None and self.resize < self.image_size:
            raise ConfigError(
                f"dataset.resize: {self.resize} was given; expected at least dataset.image_size, {self.image_size}: "
                "squares of that size are cut out"
            )

    def __str__(self) -> str:
        size = f"{self.image_size}x{self.image_size}" if self.resize is None else str(self.resize)
        return f"{size}-{'grey' if self.grey else 'rgb'}{'-jpeg' if self.is_encoded else ''}"

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    @property
    def is_encoded(self) -> bool:
        return self.pack == "jpeg"

    def settle(self, parts: Mapping[str, Sequence[Path]], folders: Sequence[Path]) -> PictureDecoder:
        """With "auto" decided for all parts: raw where their pixels have room on the disk, or are packed already."""
        if self.pack != "auto":
            return self
        raw = replace(self, pack="raw")
        return raw if self.resize is None else choose_pack(parts, (raw, replace(self, pack="jpeg")), folders)

    def measure(self, path: Path) -> int:
        """How many pixels `decode` will give. Raises DataError."""
        if self.resize is None:
            return self.image_size**2
        with decoding(path):
            require_regular(path)
            with Image.open(path) as picture:
                height, width = scaled_shape(picture.height, picture.width, self.resize)
        return height * width

    def allows(self, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """Which sizes the pictures that it has decoded may have."""
        if self.resize is None:
            return (heights == self.image_size) & (widths == self.image_size)
        return np.minimum(heights, widths) == self.resize

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W, C). Raises DataError."""
        if self.resize is None:
            return crop_square(read_picture(path, self.grey, shorter=self.image_size), self.image_size)
        return read_picture(path, self.grey, shorter=self.resize)

    def encode(self, path: Path) -> tuple[bytes, tuple[int, int]]:
        """A JPEG of what `decode` gives, with height and width: the file as it is, where that is one. Raises DataError.

        So pictures that have the size wanted lose nothing.
        """
        pixels = self.decode(path)
        height, width, _ = pixels.shape
        with decoding(path), Image.open(path) as picture:
            if picture.size == (width, height) and is_plain_jpeg(picture, self.grey):
                return read_regular(path), (height, width)
        return encode_jpeg(pixels), (height, width)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Raises DataError for whatever is raised inside: a damaged file makes decoders raise anything."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        missing = tell_missing([path.name])
        raise DataError(f"{path}: cannot be decoded (no picture of a kind that is read{missing})") from error
    except Exception as error:
        raise DataError(f"{path}: cannot be decoded ({str(error) or type(error).__name__})") from error


def require_regular_picture(path: Path) -> None:
    """Raises DataError where opening would fail, or might wait for ever."""
    with decoding(path):
        require_regular(path)


def read_picture(path: Path, grey: bool, shorter: int | None = None) -> np.ndarray:
    """uint8 (H, W, 1 or 3), turned as its EXIF orientation says, its shorter side `shorter` pixels long if given.

    Whatever the file holds becomes 8 bits of grey or sRGB, see `appearance.py`; of several frames the first counts.

    A JPEG of at least eight times the wanted size is decoded to a half, a quarter or an eighth of its own, which its
    blocks allow at little cost, but to no less than four times what is wanted; the antialiased resize does the rest.
    Such a picture differs from one that was decoded whole by a level or two on average. Raises DataError for a broken
    file.
    """
    with decoding(path):
        content = read_regular(path)
        if content.startswith(PNG):
            image = decode_plain_png(content, list_chunks(content), grey)
            if image is not None:
                return scale(image, shorter)
        with Image.open(BytesIO(content)) as picture:
            if picture.format in FRAMED and getattr(picture, "is_animated", False):
                FRAMES.append(path)
            height, width = picture.height, picture.width
            if shorter is not None:
                picture.draft(None, (4 * shorter, 4 * shorter))
            is_drafted = picture.size != (width, height)
            image = decode_plain_jpeg(content, picture, grey)
            if image is not None:
                return image if shorter is None else resize_picture(image, scaled_shape(height, width, shorter))
            picture.load()
            if not is_drafted:
                height, width = picture.height, picture.width  # a TIFF is turned when it is loaded
            orientation = picture.getexif().get(ORIENTATION, 1)
            if orientation >= 5:  # turned by a quarter
                height, width = width, height
            shape = None if shorter is None else scaled_shape(height, width, shorter)
            shown = show(picture, grey)
            # A turn copies the picture even where it changes nothing.
            pixels = np.array(shown.transpose(TURNS[orientation]) if orientation in TURNS else shown)
        image = pixels.reshape(*pixels.shape[:2], -1)
        return image if shape is None else resize_picture(image, shape)


def scale(image: np.ndarray, shorter: int | None) -> np.ndarray:
    """With the shorter side so long, if it is given."""
    height, width, _ = image.shape
    return image if shorter is None else resize_picture(image, scaled_shape(height, width, shorter))


def scaled_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """As `resized_shape`. Raises ValueError for a picture that is too long and thin to be made so large."""
    shape = resized_shape(height, width, shorter)
    if shape[0] * shape[1] > MAX_PIXELS:
        raise ValueError(
            f"{width}×{height} pixels become {shape[1]}×{shape[0]}, more than {MAX_PIXELS:,}; "
            "cut it, or choose a smaller dataset.resize"
        )
    return shape


# --- Frames -------------------------------------------------------------------------------------------

FRAMES: list[Path] = []  # files with several frames that this process has read, until they are told


def take_framed() -> list[Path]:
    """The files with several frames that were read since the last call."""
    taken, FRAMES[:] = list(FRAMES), []
    return taken


def say_framed(paths: Sequence[Path]) -> None:
    """Once in a command."""
    if paths:
        say(format_list("files with several frames, of which the first is taken", sorted(set(paths))), once="frames")


# --- As a dataset -------------------------------------------------------------------------------------


def dataset_of_pictures(
    root: str,
    classes: tuple[str, ...],
    files: Mapping[str, Pictures],
    decoder: PictureDecoder,
    cache: str | None,
    on_bad_image: OnBadImage,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    competition: Competition | None = None,
    task: Task = MULTICLASS,
) -> Dataset:
    """The dataset that picture files make up: `files` has those of each part, and "unlabelled" ones."""
    folders = cache_folders(Path(root), cache)
    unlabelled = files.get("unlabelled")
    parts = tuple(part for part in files if part != "unlabelled")

    @functools.cache
    def settle() -> PictureDecoder:
        return decoder.settle({part: files[part].paths for part in parts}, folders)

    def read(part: str, verify: bool) -> ImageSet:
        return read_pictures(files[part], part, settle(), folders, on_bad_image, verify=verify)

    def verify() -> None:
        for part in parts:
            read(part, verify=True)

    return Dataset(
        Facts(classes, decoder.channels, decoder.image_size, mean, std, task, decoder.resize),
        parts=parts,
        read=functools.partial(read, verify=mean is None),  # all pixels are read then, for their mean
        unlabelled=None if unlabelled is None else lambda: open_unlabelled(unlabelled, decoder.grey),
        competition=competition,
        files=files,
        verify=verify,
    )


def read_pictures(
    pictures: Pictures,
    part: str,
    decoder: PictureDecoder,
    folders: Sequence[Path],
    on_bad_image: OnBadImage = "error",
    *,
    verify: bool = False,
) -> ImageSet:
    """Labelled pictures, packed into one of `folders` (see `cache_folders`) unless they are there already.

    Those that cannot be decoded are left out and told on stderr, or raise DataError. With `verify` packed pixels are
    held against their checksums. Raises StorageError if there is no room to pack them.
    """
    pack = open_pack(pictures.paths, part, decoder, folders, allow_broken=on_bad_image == "skip", verify=verify)
    say_framed(take_framed())
    images: Store = (pack.squares if decoder.resize is None else pack.pictures)(decoder.image_size)
    if pack.broken:
        say(format_list("pictures left out, they cannot be decoded", [pictures.paths[index] for index in pack.broken]))
        whole = sorted(set(range(len(pictures))) - set(pack.broken))
        images, pictures = images.select(torch.tensor(whole, dtype=torch.long)), pictures.select(whole)
    return ImageSet(images, pictures.label_tensor(), pictures)


def open_unlabelled(pictures: Pictures, grey: bool) -> Unlabelled:
    """Pictures to predict, decoded one by one as they are asked for, to the same pixels as if they were packed."""
    return Unlabelled(pictures.ids, lambda index, shorter: read_picture(pictures.paths[index], grey, shorter))
