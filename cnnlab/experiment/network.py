"""The network that a configuration describes, from the facts of its dataset alone; and which part of it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnlab.config import Config
from cnnlab.data import Facts
from cnnlab.data.batches import Batches
from cnnlab.durations import Duration
from cnnlab.engine.compute import PLAIN
from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.frozen import Frozen
from cnnlab.engine.kept_features import KeptFeatures
from cnnlab.engine.network import Network
from cnnlab.engine.step import is_out_of_memory
from cnnlab.errors import ConfigError, MemoryShortage
from cnnlab.models import DATA_INITS, INITS
from cnnlab.models.backbones import find_published
from cnnlab.models.freezing import OnFeatures, find_frozen, require_learning
from cnnlab.models.head import replace_head
from cnnlab.models.shapes import require_size
from cnnlab.models.weights import load_weights
from cnnlab.seeds import derive_seed

NUM_IMAGES = 5000  # that weights begin from


def build_model(config: Config, facts: Facts) -> nn.Module:
    """The model for such images as its builder leaves it, but for its head and what never learns; on the CPU.

    Its arithmetic may yet keep it from running. Raises ConfigError, or MemoryShortage for too many weights.
    """
    torch.default_generator.manual_seed(derive_seed(config.seed, "init"))
    try:
        model: nn.Module = config.model.build(
            num_classes=facts.num_outputs, in_channels=facts.channels, image_size=facts.image_size
        )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortage(
            f"model: {config.model.name} with its settings has more weights than the memory holds; expected fewer"
        ) from error
    shared = config.model.shared
    if shared.batch_norm_momentum is not None:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = shared.batch_norm_momentum
    if shared.head or shared.head_dropout:
        replace_head(model, shared.head, shared.head_dropout)
    frozen = find_frozen(model, shared.freeze)[0] if shared.freeze else []
    for parameter in frozen:  # some networks have parameters that never learn
        parameter.requires_grad_(parameter.requires_grad and shared.unfreeze_after is not None)
    if shared.freeze_after:
        require_learning(model, frozen, list(shared.freeze_after))
    return model


def build_network(
    config: Config, facts: Facts, device: torch.device, *, trained: bool, new_head: bool = True
) -> Network:
    """The network for such images on its device, computing as far as it is decided how.

    One that is `trained` gets its weights from a checkpoint, another begins with those that the configuration names,
    but for a last layer of other classes, if `new_head` allows that.
    Raises ConfigError, naming the layer, if its arithmetic has no room for images of this size.
    """
    model = build_model(config, facts)
    require_size(model, facts.channels, facts.image_size)
    shared = config.model.shared
    if shared.init is not None:
        model.apply(INITS[shared.init])
    if shared.weights is not None and not trained:
        published = find_published(config.model.name, config.model.arguments.get("arch"))
        load_weights(model, shared.weights, published, new_head=new_head)
    return Network(model.to(device), device, facts.task).computed_as(config.compute.fill(PLAIN).uncompiled())


@torch.no_grad()
def initialise_from_data(config: Config, network: Network, train: Batches) -> None:
    """Let weights begin as `model.init_from_data` makes them of the first training images, unless they are trained.

    Raises ConfigError.
    """
    name = config.model.shared.init_from_data
    if name is None or config.model.shared.weights is not None:
        return
    source = replace(train.in_order(), batch_size=NUM_IMAGES)
    DATA_INITS[name](network.model, source.batch(0, 0)[0])


def count_learning(model: nn.Module) -> int:
    """How many numbers training may change; a tensor that two layers share counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def list_frozen(config: Config, model: nn.Module, count_steps: Callable[[Duration], int]) -> tuple[Frozen, ...]:
    """What of the network does not learn, and when; of several names of `freeze_after` the longest counts."""
    shared = config.model.shared
    listed: list[Frozen] = []
    seen: set[nn.Parameter | nn.Module] = set()
    for prefix, after in sorted((shared.freeze_after or {}).items(), key=lambda item: -len(str(item[0]))):
        parameters, modules = find_frozen(model, [prefix])
        learning = [p for p in parameters if p.requires_grad and p not in seen]
        listed.append(Frozen(learning, [m for m in modules if m not in seen], since=count_steps(after)))
        seen.update(parameters, modules)
    if shared.freeze:
        parameters, modules = find_frozen(model, shared.freeze)
        until = count_steps(shared.unfreeze_after) if shared.unfreeze_after else math.inf
        listed.append(Frozen([p for p in parameters if p.requires_grad], modules, until=until))
    return tuple(listed)


def keep_features(
    config: Config, network: Network, facts: Facts, parts: Mapping[str, Batches]
) -> tuple[Network, Mapping[str, BatchSource]]:
    """What learns, and from what: the network and images, or its head and features where these are kept.

    Raises ConfigError where features are asked for of a network that has none to keep.
    """
    shared, train = config.model.shared, parts["train"]
    num_views = shared.feature_views
    if num_views == "auto":
        seen_as_they_are = not train.augment and config.engine.tta == "none"
        num_views = 1 if shared.keeps_backbone and seen_as_they_are else 0
    if num_views == 0:
        return network, parts
    if config.engine.tta != "none":
        raise ConfigError(
            f"model.feature_views: {num_views} was given beside engine.tta={config.engine.tta}; expected 0, or tta "
            "none: features are kept of one view of a test image"
        )
    if train.augment.mixes:
        raise ConfigError(
            f"model.feature_views: {num_views} was given beside augment.{' and augment.'.join(train.augment.mixes)}; "
            "expected 0: features are kept of single images"
        )
    head = OnFeatures(network.model)
    if not head.ends_the_network(facts.channels, facts.image_size):
        if shared.feature_views == "auto":
            return network, parts
        raise ConfigError(
            f"model.feature_views: {num_views} was given, but {config.model.name} goes on after its last layer, "
            f"{head.name}; expected 0, or a network that ends in that layer"
        )
    views = {part: num_views if part == "train" else 1 for part in parts}
    kept = {part: KeptFeatures(batches, head.extract_features, views[part]) for part, batches in parts.items()}
    return replace(network, model=head), kept
