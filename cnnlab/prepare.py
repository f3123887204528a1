"""`cnnlab prepare`: check every file of a dataset before it is trained on, and lay it out in folders.

What is shown and written is what `cnnlab train` with the same keys would train on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.composition import compose
from cnnlab.config import Config
from cnnlab.data import Dataset
from cnnlab.data.audit import Audit, audit
from cnnlab.data.dataset import Pictures
from cnnlab.data.groups import find_groups
from cnnlab.data.layout import plan_tree, write_tree
from cnnlab.data.parts import divide
from cnnlab.data.pictures import UnsoundPictures
from cnnlab.errors import ConfigError, DataError, printable
from cnnlab.experiment.dataset import build_dataset, group_images
from cnnlab.stopping import StopRequest


def prepare(
    overrides: list[str], config_dirs: list[str], output: str | None, *, verify: bool = False, strict: bool = False
) -> bool:
    """Print what there is and everything that is wrong with it; whether nothing is that would spoil training.

    That a picture to predict is there twice is a remark; with `strict` it counts too. With `output` the tree of folders
    is written there, unless ids, labels or files are broken. With `verify` packed pixels are held against their
    checksums, and packed anew where they differ.
    Raises ConfigError for a mistake in the configuration, DataError for a dataset that is not there at all.
    """
    config = compose(overrides, config_dirs)
    with StopRequest():
        try:
            dataset = build_dataset(config)
        except UnsoundPictures as error:
            report(error.problems, audit(error.files), {})
            return False
        if dataset.files:
            return prepare_pictures(config, dataset, output, verify=verify, strict=strict)
    if output is not None:
        raise ConfigError(f"--layout: {config.dataset.name} is not made of picture files; expected one that is")
    count_images(config, dataset)
    print("not made of picture files: nothing more to check, training reads it as it is")
    return True


def prepare_pictures(config: Config, dataset: Dataset, output: str | None, *, verify: bool, strict: bool) -> bool:
    if output is not None and not dataset.facts.task.has_classes:
        raise ConfigError(f"--layout: {config.dataset.name} is {dataset.facts.task}; expected a class for each picture")
    found = audit(dataset.files)
    skip = config.dataset.arguments.get("on_bad_image") == "skip"
    parts, problems = dict(dataset.files), []
    if skip:
        for part, pictures in dataset.files.items():
            whole = [index for index, path in enumerate(pictures.paths) if path not in found.unreadable]
            parts[part] = pictures.select(whole)
    try:
        parts |= split_files(config, dataset, parts)
        plan = plan_tree(parts, dataset.facts.classes) if output is not None else {}
    except DataError as error:
        problems.append(str(error))
    print_contents(config.dataset.name, dataset.facts.classes, parts, found)
    sound = report(problems, found, name_labels(dataset), skip=skip, strict=strict)
    trainable = not problems and (skip or not found.unreadable)
    if trainable:
        for part in dataset.parts:
            dataset.read(part)  # which packs it, so that training need not
    if trainable and verify and dataset.verify is not None:
        dataset.verify()
        print("\npacked pictures: every checksum is right")
    if output is not None and trainable:
        written = write_tree(Path(output), plan)
        print(f"\n{printable(output)}: {'written' if written else 'there already, nothing to do'}")
    elif output is not None:
        print(f"\n{printable(output)}: not written; fix what is wrong first")
    return sound


def count_images(config: Config, dataset: Dataset) -> None:
    """Print how many images there are, and of which class. Raises DataError for what cannot be read, or divided."""
    read = {part: dataset.read(part) for part in dataset.parts}
    labels = {part: images.labels for part, images in read.items()}
    parts = divide(config.division, labels, dataset.facts.classes, group_images(config, read["train"]))
    of_part = {name: labels[part.source][part.indices] for name, part in parts.items()}
    if dataset.facts.task.has_classes:
        print_classes(dataset.facts.classes, of_part)
    num_labelled = sum(map(len, of_part.values()))
    num_asked = 0 if dataset.unlabelled is None else len(dataset.unlabelled())
    print(f"\n{config.dataset.name}: {num_labelled:,} images, {num_asked:,} to predict")


def split_files(config: Config, dataset: Dataset, files: Mapping[str, Pictures]) -> dict[str, Pictures]:
    """The files of "train", "valid" and "test" as training would have them. Raises DataError."""
    labels = {part: files[part].label_tensor() for part in dataset.parts}
    groups = find_groups(config.split.groups, files["train"])
    if config.split.keep_twins:
        groups = group_images(config, dataset.read("train"))
    parts = divide(config.division, labels, dataset.facts.classes, groups)
    return {name: files[part.source].select(part.indices.tolist()) for name, part in parts.items()}


# --- What there is ------------------------------------------------------------------------------------


def print_contents(name: str, classes: Sequence[str], parts: Mapping[str, Pictures], found: Audit) -> None:
    """A line a class with its number of pictures in each part, then their sizes."""
    labelled = [part for part in ("train", "valid", "test") if part in parts]
    print_classes(classes, {part: parts[part].label_tensor() for part in labelled})
    num_unlabelled = len(parts["unlabelled"]) if "unlabelled" in parts else 0
    num_labelled = sum(len(parts[part]) for part in labelled)
    contents = found.contents.values()
    sizes = sorted((content.size for content in contents if content.size), key=lambda size: size[0] * size[1])
    megabytes = sum(max(content.num_bytes, 0) for content in contents) / 1e6
    print(f"\n{name}: {num_labelled:,} pictures of {len(classes)} classes, {num_unlabelled:,} to predict")
    if sizes:
        smallest, largest = ("×".join(map(str, size)) for size in (sizes[0], sizes[-1]))
        print(f"{smallest} to {largest} pixels, {megabytes:,.1f} MB")


def print_classes(classes: Sequence[str], labels: Mapping[str, Tensor]) -> None:
    """A line a class, or label, with its number of images in each part; `labels` by the part as in an ImageSet."""
    labelled = [part for part in ("train", "valid", "test") if part in labels]
    counts = {
        part: (of_part.sum(0) if of_part.ndim == 2 else torch.bincount(of_part, minlength=len(classes))).int().tolist()
        for part, of_part in labels.items()
    }
    rows = [(printable(each), *(f"{counts[part][label]:,}" for part in labelled)) for label, each in enumerate(classes)]
    table = [("class", *labelled), *rows, ("all", *(f"{len(labels[part]):,}" for part in labelled))]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


def name_labels(dataset: Dataset) -> dict[Path, str]:
    """What each labelled file is said to be."""
    return {
        path: dataset.facts.name(label)
        for pictures in dataset.files.values()
        for path, label in zip(pictures.paths, pictures.labels or (), strict=False)
    }


# --- What is wrong ------------------------------------------------------------------------------------


def report(
    problems: Sequence[str], found: Audit, names: Mapping[Path, str], *, skip: bool = False, strict: bool = False
) -> bool:
    """Print every problem and every file that something is wrong with; whether nothing is.

    With `skip` it is right that files cannot be read: they are left out.
    """

    def write(group: Sequence[Path]) -> str:
        return " = ".join(f"{path} ({names[path]})" if path in names else str(path) for path in group)

    unreadable = {
        "empty files": [str(path) for path in found.empty],
        "files that cannot be decoded": [found.contents[path].reason for path in found.broken],
    }
    wrong = {
        "problems": list(problems),
        **({} if skip else unreadable),
        "the same picture with different labels": [write(group) for group in found.mislabelled],
        "the same picture in different parts": [write(group) for group in found.leaked],
        "the same picture more than once": [
            write(group) for group in found.duplicated if not names.keys().isdisjoint(group)
        ],
    }
    unasked = [write(group) for group in found.duplicated if names.keys().isdisjoint(group)]
    remarks = {"remark: the same picture to predict more than once": unasked}
    left_out = {f"left out: {what}": lines for what, lines in unreadable.items()} if skip else {}
    for what, lines in (left_out | wrong | remarks).items():
        if lines:
            print(f"\n{what} ({len(lines):,}):" + "".join(f"\n  {printable(line)}" for line in lines))
    return not any(wrong.values()) and not (strict and any(remarks.values()))
