"""Recipes survive a swap: what an experiment sets in a group holds for the choice that it makes there.

`experiment=cifar10_resnet18` chooses `optimizer: sgd` and sets its momentum. With `optimizer=adamw` beside it that
momentum, and the rate that goes with it, make no sense: the group is then as it is without the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from cnnlab.distributed import say

RECIPES = "experiment"  # the group


def leave_out_unchosen(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> DictConfig:
    """What is `composed` without the recipe's settings of groups in which another choice was made than the recipe's.

    `choices` are those that it was composed of, `overrides` what it was composed from; Hydra has to be initialised.
    What is left out is said.
    """
    recipe = choices.get(RECIPES)
    typed = dict(text.lstrip("+~").partition("=")[::2] for text in overrides)
    groups = [key for key, value in typed.items() if is_group(composed, key) and not value.startswith("{")]
    if recipe is None or not groups:
        return composed
    searched = [text for text in overrides if text.startswith("hydra.searchpath=")]
    alone = [*searched, f"{RECIPES}={recipe}"]
    as_recipe, own = compose_choices(alone)

    def is_swapped(group: str) -> bool:
        if group in own and group in choices:
            return bool(own[group] != choices[group])
        beside, _ = compose_choices([*alone, f"{group}={typed[group]}"])  # Hydra names no choice that is a list
        return as_written(beside[group]) != as_written(as_recipe[group])

    swapped = [group for group in groups if is_swapped(group)]
    if not swapped:
        return composed
    without, _ = compose_choices([text for text in overrides if text.lstrip("+").partition("=")[0] != RECIPES])
    kept = composed.copy()
    with open_dict(kept):
        for group in swapped:
            if as_written(kept[group]) != as_written(without[group]):
                choice = f"{group}={own[group]}" if group in own else f"its own {group}"
                say(
                    f"{RECIPES}={recipe}: what it sets in {group} goes with {choice}, and is left out for "
                    f"{group}={typed[group]}"
                )
            kept[group] = without[group]
    return kept


def compose_choices(overrides: Sequence[str]) -> tuple[DictConfig, Mapping[str, Any]]:
    """What Hydra, which has to be initialised, composes of overrides, and what is chosen in each group."""
    composed = hydra.compose("train", list(overrides), return_hydra_config=True)
    choices: Any = OmegaConf.to_container(composed.hydra.runtime.choices)
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]), choices


def is_group(composed: DictConfig, key: str) -> bool:
    """Whether what is typed for `key` chooses files; Hydra's own account of its groups leaves out those with lists."""
    return key in composed and not OmegaConf.is_interpolation(composed, key) and OmegaConf.is_dict(composed[key])


def as_written(node: Any) -> Any:
    """In plain containers, ${…} not filled in."""
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
