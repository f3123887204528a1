"""Images that belong together, of one patient, one scene or one film, and so into one part: never on both sides."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

from cnnlab.data.dataset import ImageSet, Pictures
from cnnlab.data.twins import AT_ONCE, MAX_COMPARED, find_twins
from cnnlab.errors import ConfigError, DataError, format_list
from cnnlab.signature import suggest


def is_pattern(groups: str) -> bool:
    """Whether this is a regular expression: it has parentheses, around what names the group."""
    return "(" in groups


def find_groups(by: str | None, files: Pictures | None) -> Tensor | None:
    """The group of each picture, int64 (N,); None where nothing is said of groups.

    `by` is a column of the table that the pictures are labelled by, or a pattern whose parentheses match the group in
    their ids. Raises ConfigError where there is no such column, DataError for ids that the pattern does not match.
    """
    if by is None:
        return None
    if files is None:
        raise ConfigError(f"split.groups: {by} was given; expected null: this dataset is not made of picture files")
    if not is_pattern(by):
        if by not in files.columns:
            there = f"; {suggest(by, files.columns)}" if files.columns else ": no table has one"
            raise ConfigError(
                f"split.groups: no column '{by}'{there}; or a pattern with parentheses around what names the group in "
                "an id, such as '(.*)_'"
            )
        return _number(files.columns[by])
    found = [re.search(by, name) for name in files.ids]
    strangers = [name for name, match in zip(files.ids, found, strict=True) if match is None]
    if strangers:
        raise DataError(
            f"{format_list(f'split.groups: ids that {by} does not match', strangers)}; expected a match in each"
        )
    return _number([match.groups() for match in found if match])


def join_twins(groups: Tensor | None, images: ImageSet) -> Tensor:
    """The groups, int64 (N,), with those of near-twins (see `twins.py`) made one; without `groups` twins alone are.

    Raises DataError for more images than can be compared.
    """
    if not images.holds_pixels or len(images) > MAX_COMPARED:
        raise DataError(
            f"split.keep_twins: true was given for {len(images):,} images; expected false, or at most {MAX_COMPARED:,} "
            "of pixels: each is compared with all others"
        )
    store = images.store
    pieces = map(store.take_centres, torch.arange(len(images), device=store.device).split(AT_ONCE))
    group = torch.arange(len(images)) if groups is None else groups
    parent = list(range(int(group.max()) + 1))

    def find_root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for pair in find_twins(pieces):
        first, second = find_root(int(group[pair.first])), find_root(int(group[pair.second]))
        parent[max(first, second)] = min(first, second)
    return _number([find_root(number) for number in group.tolist()])


def _number(names: Iterable[Hashable]) -> Tensor:
    """Of each name which it is of those that there are, in the order of their first: int64 (N,)."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])
