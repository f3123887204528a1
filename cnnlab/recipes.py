"""Recipes survive a swap: what an experiment sets in a group holds for the choice that it makes there.

`experiment=cifar10_resnet18` chooses `optimizer: sgd` and sets its momentum. With `optimizer=adamw` beside it that
momentum, and the rate that goes with it, make no sense: the group is then as it is without the recipe.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from omegaconf import OmegaConf

RECIPES = "experiment"  # the group
_SAID: set[str] = set()


def leave_out_unchosen(tree: Mapping[str, Any], choices: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The composed `tree` without the recipe's settings of groups in which another choice was made than the recipe's.

    `choices` are those that `tree` was composed of, `overrides` what it was composed from; Hydra has to be
    initialised. What is left out is said.
    """
    recipe = choices.get(RECIPES)
    if recipe is None:
        return dict(tree)
    searched = [text for text in overrides if text.startswith("hydra.searchpath=")]
    _, own = compose_choices([*searched, f"{RECIPES}={recipe}"])
    swapped = [group for group in own if group in tree and group != RECIPES and choices.get(group) != own[group]]
    if not swapped:
        return dict(tree)
    without, _ = compose_choices([text for text in overrides if text.lstrip("+").partition("=")[0] != RECIPES])
    for group in swapped:
        if tree[group] != without[group]:
            say(
                f"{RECIPES}={recipe}: what it sets in {group} goes with {group}={own[group]}, and is left out for "
                f"{group}={choices[group]}"
            )
    return {**tree, **{group: without[group] for group in swapped}}


def compose_choices(overrides: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The tree that Hydra, which has to be initialised, makes of overrides, and what is chosen in each group."""
    composed = hydra.compose("train", list(overrides), return_hydra_config=True)
    choices = OmegaConf.to_container(composed.hydra.runtime.choices)
    tree = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return OmegaConf.to_container(tree, resolve=True), choices  # type: ignore[return-value]


def say(line: str) -> None:
    """Once in a command, though its configuration may be composed several times."""
    if line not in _SAID:
        _SAID.add(line)
        print(line, file=sys.stderr)
