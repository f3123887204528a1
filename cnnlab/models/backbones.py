"""Networks of other libraries, by the names that they have there: `model=torchvision model.arch=resnet34`.

The last layer is one for the dataset's classes, the first reads as many channels as its images have. Which weights
the libraries publish is found here too, also for networks of cnnlab's own that torchvision has under the same name;
how weights are loaded is told in `weights.py`. The libraries are imported when such a network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.models.head import find_head, replace_layer
from cnnlab.models.registry import MODELS
from cnnlab.models.weights import Published, State, find_heads
from cnnlab.signature import suggest

DEFAULT = "DEFAULT"
OWN_CLASSIFIER = ("googlenet", "inception_v3")  # of torchvision, with auxiliary ones beside


@MODELS.register
def torchvision(*, num_classes: int, in_channels: int, arch: str = "resnet34") -> nn.Module:
    """Any classification network of torchvision. Raises ConfigError for an `arch` that it does not have."""
    from torchvision import models

    names = models.list_models(module=models)
    if arch not in names:
        raise ConfigError(f"model.arch: torchvision has no '{arch}'; {suggest(arch, names)}")
    options = {"aux_logits": False, "init_weights": True} if arch in OWN_CLASSIFIER else {}
    network = models.get_model(arch, weights=None, **options)
    head = find_head(network)
    if network.get_parameter(f"{head}.weight").shape[0] != num_classes:
        replace_layer(network, head, num_classes)
    replace_first_layer(network, in_channels)
    return network


@MODELS.register
def timm(*, num_classes: int, in_channels: int, arch: str = "resnet34") -> nn.Module:
    """Any network of timm, which comes with: pip install "cnnlab[timm]".

    Raises ConfigError where timm is not installed, and for an `arch` that it does not have.
    """
    library = import_timm()
    if not library.is_model(arch):
        raise ConfigError(f"model.arch: timm has no '{arch}'; {suggest(arch, library.list_models())}")
    network = library.create_model(arch, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    narrow_heads(network)
    return network


def import_timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ConfigError('model=timm: timm is not installed; get it with: pip install "cnnlab[timm]"') from None
    return timm


def narrow_heads(network: nn.Module) -> None:
    """Draw a last layer anew, as torch does, whose outputs would be wider than its inputs.

    timm draws that of EfficientNets and their kin by the number of outputs, as was done for ImageNet's 1000 classes:
    for two classes logits would begin at ±10, and a head that is sure of itself and wrong wrecks a trained backbone.
    """
    for name in find_heads(network):
        head = network.get_submodule(name)
        if isinstance(head, nn.Linear) and head.weight.std() > head.in_features**-0.5:
            head.reset_parameters()


def replace_first_layer(network: nn.Module, in_channels: int) -> None:
    """A new first convolution, if the network has another number of input channels."""
    conv = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is not None and conv.in_channels != in_channels:
        shape = (conv.out_channels, in_channels // conv.groups, *conv.kernel_size)
        conv.in_channels, conv.weight = in_channels, nn.Parameter(conv.weight.new_empty(shape))
        conv.reset_parameters()


# --- Published weights --------------------------------------------------------------------------------


def find_published(name: str, arch: str | None) -> Published:
    """The weights that are published for a network: of timm, or of torchvision under the same name; none for others."""
    if name == "timm":
        assert arch is not None
        return {DEFAULT: partial(fetch_timm, arch)}
    from torchvision import models

    arch = arch or name
    if arch not in models.list_models(module=models):
        return {}
    published = models.get_model_weights(arch)
    return {key: partial(fetch_torchvision, arch, weights) for key, weights in published.__members__.items()}


def fetch_torchvision(arch: str, weights: Any) -> State:
    """As torchvision's own network has them: some of its files are older than the names in its code."""
    from torchvision import models

    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    return download(
        lambda: models.get_model(arch, weights=weights, progress=False).state_dict(), f"{path}, from {weights.url}"
    )


def fetch_timm(arch: str) -> State:
    library = import_timm()
    published = library.create_model(arch, pretrained=False).pretrained_cfg
    wanted = published.get("hf_hub_id") or published.get("url") or f"weights for {arch}, which timm does not have"
    return download(lambda: library.create_model(arch, pretrained=True).state_dict(), wanted)


def download(fetch: Callable[[], State], wanted: str) -> State:
    """What `fetch` returns. Raises ConfigError naming what is `wanted` if it cannot be had."""
    try:
        return fetch()
    # The libraries report a missing network, or a file that arrived truncated, as any of these.
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"model.weights: downloading failed ({error}); wanted: {wanted}. Put the file there by other means, or "
            "anywhere with model.weights=FILE"
        ) from error
