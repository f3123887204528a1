"""Parts of a network that do not learn, or from some step on: all of the backbone, or what is named.

What is frozen is in evaluation mode while the rest trains: batch normalisation uses its running statistics and
leaves them as they are, dropout drops nothing. So a frozen backbone makes the same features of the same image in
every epoch, and they can be kept.

Layers near the image settle first. From where they are frozen a step needs no gradients of them nor of what they are
handed (Brock et al., "FreezeOut: Accelerate training by progressively freezing layers", arXiv:1706.04983).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnlab.errors import ConfigError
from cnnlab.models.head import find_head
from cnnlab.modes import keep_modes
from cnnlab.prefixes import require_prefixes, starts


def find_frozen(
    network: nn.Module, freeze: Literal["backbone"] | Sequence[str | int], where: str = "model.freeze"
) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """The parameters and the modules that `freeze` names: those below the names, or all outside the head.

    Raises ConfigError, for the key `where` they were given, for a name that no parameter's starts with, and where
    nothing would be left to train or nothing would be frozen.
    """
    parameters = dict(network.named_parameters())
    head = find_head(network) if freeze == "backbone" else None
    prefixes = [] if head is not None else [str(name) for name in freeze]  # YAML reads 0 as a number
    require_prefixes(where, prefixes, list(parameters))

    def is_frozen(name: str) -> bool:
        return not starts(name, head) if head is not None else any(starts(name, prefix) for prefix in prefixes)

    frozen = [p for name, p in parameters.items() if is_frozen(name)]
    if len(frozen) == len(parameters):
        raise ConfigError(f"{where}: {freeze} are all of the parameters: nothing is left to train")
    if not frozen and head is not None:
        raise ConfigError(f"{where}: backbone was given, but all parameters are in the last layer, {head}")
    return frozen, [module for name, module in network.named_modules() if is_frozen(name)]


def require_learning(network: nn.Module, frozen: Sequence[nn.Parameter], late: Sequence[str | int]) -> None:
    """Raises ConfigError where what freezes after a while, named by `late`, is `frozen` already, or nothing is left."""
    before = set(frozen)
    parts = {prefix: find_frozen(network, [prefix], "model.freeze_after")[0] for prefix in late}
    twice = [prefix for prefix, parameters in parts.items() if before & set(parameters)]
    if twice:
        raise ConfigError(
            f"model.freeze_after: {', '.join(map(str, twice))} has parameters that model.freeze names too; expected "
            "one of both"
        )
    if before.union(*parts.values()).issuperset(p for p in network.parameters() if p.requires_grad):
        raise ConfigError(
            f"model.freeze_after: with {', '.join(map(str, late))} all of the parameters would be frozen; expected "
            "some that learn to the end"
        )


class OnFeatures(nn.Module):
    """A network that is handed features, as its backbone makes them of images, and applies its head alone.

    Its weights are the whole network's, under the same names: a checkpoint of one is a checkpoint of the other.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.name = find_head(network)  # of the head

    def forward(self, features: Tensor) -> Tensor:
        return self.network.get_submodule(self.name)(features)

    def extract_features(self, images: Tensor) -> Tensor:
        """The features of images: what reaches the head, in evaluation mode and without gradients."""
        seen: list[Tensor] = []
        handle = self.network.get_submodule(self.name).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            with keep_modes(self.network), torch.no_grad():
                self.network.eval()
                self.network(images)
        finally:
            handle.remove()
        return seen[-1]

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return self.network.state_dict()

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return self.network.load_state_dict(state_dict, strict, assign)

    def ends_the_network(self, in_channels: int, image_size: int) -> bool:
        """Whether the head is handed one row an image, and its outputs are the network's."""
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, in_channels, image_size, image_size, generator=generator)
        images = images.to(next(self.network.parameters()).device)
        features = self.extract_features(images)
        with keep_modes(self.network), torch.no_grad():
            self.network.eval()
            return features.dim() == 2 and torch.equal(self(features), self.network(images))
