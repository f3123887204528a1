"""Networks of other libraries, by the names that they have there: `model=torchvision model.arch=resnet34`.

    model.weights=null          untrained
    model.weights=DEFAULT       the library's best published weights, downloaded once
    model.weights=FILE          a file of weights: published ones, or a checkpoint of an earlier run

The last layer is replaced by one for the dataset's classes, unless it has as many already. Where images have
another number of channels than the network, its first convolution changes too: its trained weights are summed over
the old channels and shared equally among the new ones, so that a grey image gets the response that it would get as
an RGB image with three equal channels. (For one channel that is the common practice.)

A file is checked key by key before anything is loaded: either every weight of the network is in it, in its shape,
and nothing else, or nothing is loaded and the differences are told. What is expected to differ is printed: a last
layer for other classes, and auxiliary classifiers, which these networks leave out.

The libraries are imported when such a network is built.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab.errors import ConfigError
from cnnlab.models.head import find_head, replace_layer
from cnnlab.models.registry import MODELS
from cnnlab.models.shapes import write_shape
from cnnlab.signature import suggest

NUM_LISTED = 10  # keys named in an error
DEFAULT = "DEFAULT"

# --- The two libraries ------------------------------------------------------------------------------


@MODELS.register
def torchvision(*, num_classes: int, in_channels: int, arch: str = "resnet34", weights: str | None = None) -> nn.Module:
    """Any classification network of torchvision, pretrained or not.

    Beside DEFAULT, `weights` may be any name that torchvision has for weights of `arch`, such as
    IMAGENET1K_V1. Raises ConfigError for an `arch` that it does not have, and for weights that cannot be had.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if arch not in names:
        raise ConfigError(f"model.arch: torchvision has no '{arch}'; {suggest(arch, names)}")
    published = models.get_model_weights(arch).__members__
    options = {}
    if arch in ("googlenet", "inception_v3"):
        # Pretrained ones would otherwise change the normalisation of their images.
        options = {"aux_logits": False, "transform_input": False, "init_weights": weights is None}
    if weights in published:
        chosen = published[weights]
        wanted = f"{Path(torch.hub.get_dir(), 'checkpoints', Path(chosen.url).name)}, from {chosen.url}"
        network = download(lambda: models.get_model(arch, weights=chosen, **options), wanted)
    else:
        network = models.get_model(arch, weights=None, **options)
    head = find_head(network)
    backbone = Backbone(network, head, partial(replace_layer, network, head))
    if weights is not None and weights not in published:
        backbone.load(weights, published)
    backbone.fit(num_classes, in_channels, trained=weights is not None)
    return network


@MODELS.register
def timm(*, num_classes: int, in_channels: int, arch: str = "resnet34", weights: str | None = None) -> nn.Module:
    """Any network of timm, pretrained or not; timm comes with: pip install "cnnlab[timm]".

    Raises ConfigError where timm is not installed, for an `arch` that it does not have, and for weights that
    cannot be had.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError('model=timm: timm is not installed; get it with: pip install "cnnlab[timm]"') from None

    if not timm.is_model(arch):
        raise ConfigError(f"model.arch: timm has no '{arch}'; {suggest(arch, timm.list_models())}")

    def create(pretrained: bool) -> Any:  # an nn.Module that knows more of itself
        return timm.create_model(arch, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels)

    network = create(pretrained=False)
    if weights is None:
        return network
    published = network.pretrained_cfg
    if weights == DEFAULT:
        if published["num_classes"] != num_classes:
            say(f"the last layer is for {published['num_classes']} classes: made anew for {num_classes}")
        wanted = published.get("hf_hub_id") or published.get("url") or f"weights for {arch}, which timm does not have"
        return download(lambda: create(pretrained=True), wanted)
    heads = published["classifier"]
    backbone = Backbone(network, heads if isinstance(heads, str) else heads[0], network.reset_classifier)
    backbone.load(weights, [DEFAULT])
    backbone.fit(num_classes, in_channels, trained=True)
    return network


def download(fetch: Callable[[], nn.Module], wanted: str) -> nn.Module:
    """What `fetch` returns. Raises ConfigError naming what is `wanted` if it cannot be had."""
    try:
        return fetch()
    # The libraries report a missing network, or a file that arrived torn, as any of these.
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"model.weights: downloading failed ({error}); wanted: {wanted}. Put the file there by other means, or "
            "anywhere with model.weights=FILE"
        ) from error


# --- Both ends of a network, and its weights ----------------------------------------------------------


class Backbone:
    """A network whose last layer, named `head`, can be replaced by one for another number of classes."""

    def __init__(self, network: nn.Module, head: str, replace_head: Callable[[int], Any]):
        self.network = network
        self.head = head
        self.replace_head = replace_head
        convolutions = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
        self.first = next(convolutions, None)  # the layer that reads the image

    @property
    def num_classes(self) -> int:
        return self.network.get_parameter(f"{self.head}.weight").shape[0]

    def fit(self, num_classes: int, in_channels: int, trained: bool) -> None:
        """A head for `num_classes` and a first convolution for `in_channels`, where there are others.

        Of a trained network, what is replaced is printed.
        """
        if num_classes != self.num_classes:
            if trained:
                say(f"the last layer, {self.head}, is for {self.num_classes} classes: made anew for {num_classes}")
            self.replace_head(num_classes)
        if self.first is None:
            return
        conv = self.network.get_submodule(self.first)
        assert isinstance(conv, nn.Conv2d)
        if in_channels != conv.in_channels:
            if trained:
                say(f"the first layer, {self.first}, reads {conv.in_channels} channels: summed for {in_channels}")
            share_channels(conv, in_channels)
            if not trained:
                conv.reset_parameters()

    def load(self, path: str, published: Iterable[str]) -> None:
        """Load a file of weights, ends and all, or raise a ConfigError that lists what does not fit."""
        if not Path(path).is_file():
            choices = ", ".join([*published, "null"])
            raise ConfigError(f"model.weights: no file {path}; expected a file of weights, or one of {choices}")
        state = read_weights(path)
        own = self.network.state_dict()
        # GoogLeNet's and Inception's classifiers for training only.
        auxiliary = [key for key in state if key.startswith(("aux1.", "aux2.", "AuxLogits.")) and key not in own]
        if auxiliary:
            say(f"the auxiliary classifiers in {path}, {len(auxiliary)} keys, are left out")
            state = {key: value for key, value in state.items() if key not in auxiliary}
        head, first = state.get(f"{self.head}.weight"), state.get(f"{self.first}.weight")
        if head is not None and first is not None and head.dim() > 0 and first.dim() > 1:
            self.fit(head.shape[0], first.shape[1], trained=False)
        differences = compare(self.network.state_dict(), state)
        if differences:
            lines = "\n".join(f"  {line}" for line in differences)
            raise ConfigError(f"model.weights: {path} does not fit this network, and nothing was loaded:\n{lines}")
        self.network.load_state_dict(state, strict=False)


def say(text: str) -> None:
    print(f"model.weights: {text}", file=sys.stderr)


def share_channels(conv: nn.Conv2d, in_channels: int) -> None:
    """Sum the weights over the input channels, and give each of the new ones an equal share."""
    total = conv.weight.detach().sum(dim=1, keepdim=True)
    conv.weight = nn.Parameter(total.repeat(1, in_channels, 1, 1) / in_channels)
    conv.in_channels = in_channels


def read_weights(path: str) -> dict[str, Tensor]:
    """Names and tensors of a file; those under "model" or "state_dict" if it has such a part.

    Raises ConfigError for a file that is torn, holds code or something else.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            contents = load_file(path)
        else:
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"model.weights: {path} is no file of weights, or holds more than tensors and plain containers: refused, "
            "for loading it could run code"
        ) from error
    except Exception as error:  # of a torn file torch raises what its decoders happen to raise
        raise ConfigError(f"model.weights: {path} cannot be read ({type(error).__name__}: {error})") from error
    for part in ("model", "state_dict"):
        if isinstance(contents, Mapping) and isinstance(contents.get(part), Mapping):
            contents = contents[part]
    if not isinstance(contents, Mapping) or not all(isinstance(value, Tensor) for value in contents.values()):
        raise ConfigError(f"model.weights: {path} holds no weights; expected a mapping of names to tensors")
    # torchvision's files for DenseNet are older than the names in its code.
    return {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key): value for key, value in contents.items()}


def compare(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Lines that tell what `state` lacks, has too much, and has in another shape; none if it fits."""
    # Files older than this counter of batch normalisation do without it, and so does evaluation.
    missing = [key for key in own if key not in state and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key} ({write_shape(tuple(state[key].shape))}, expected {write_shape(tuple(own[key].shape))})"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    lists = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    return [f"{len(keys)} {what}: {write_list(keys)}" for what, keys in lists if keys]


def write_list(keys: list[str]) -> str:
    more = [f"and {len(keys) - NUM_LISTED} more"] if len(keys) > NUM_LISTED else []
    return ", ".join([*keys[:NUM_LISTED], *more])
