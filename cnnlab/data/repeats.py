"""The same picture under two labels, or in two parts: told when training begins, as `cnnlab prepare` tells it of files.

Here two pictures are the same if their decoded pixels are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnlab.data.batches import Batches
from cnnlab.errors import format_list

Spot = tuple[str, int, str, int]  # part, label, what the image is called, its index in what it is taken from


def find_repeats(parts: Mapping[str, Batches], classes: Sequence[str]) -> list[str]:
    """A line for each kind that there is. `parts` are batches of pictures that have names and classes."""
    same: dict[tuple[int, int, bytes], dict[tuple[int, int], Spot]] = {}
    for group in _group_by_checksum(parts).values():
        for part, index in group:
            images = parts[part].images
            pixels = images.store[index]
            spot = (part, int(images.labels[index]), images.name([index])[0], index)
            same.setdefault((*pixels.shape[:2], pixels.tobytes()), {})[id(images), index] = spot
    groups = [list(spots.values()) for spots in same.values()]
    labelled = [group for group in groups if len({label for _, label, *_ in group}) > 1]
    leaked = [group for group in groups if len({part for part, *_ in group}) > 1 and group not in labelled]
    found = {
        "the same picture with different labels": [
            " = ".join(f"{name} ({classes[label]})" for _, label, name, _ in group) for group in labelled
        ],
        "the same picture in different parts": [
            " = ".join(f"{name} ({part})" for part, _, name, _ in group) for group in leaked
        ],
    }
    return [format_list(what, names) for what, names in found.items() if names]


def _group_by_checksum(parts: Mapping[str, Batches]) -> dict[int, list[tuple[str, int]]]:
    """Part and index of images that may be the same; those without another like it are left out."""
    stores = {id(batches.images): batches.images.store for batches in parts.values()}
    checksums = {key: store.checksums() for key, store in stores.items()}
    groups: dict[int, list[tuple[str, int]]] = {}
    for part, batches in parts.items():
        of_store = checksums[id(batches.images)]
        for index in batches.indices.tolist():
            groups.setdefault(of_store[index], []).append((part, index))
    return {checksum: group for checksum, group in groups.items() if len(group) > 1}
