"""Trained weights for a network to begin with: `model.weights`.

    model.weights=DEFAULT       the best ones published for this architecture, downloaded once
    model.weights=FILE          a file of weights: published ones, or a checkpoint of anybody's
    model.weights=RUN           the weights that an earlier run of cnnlab has chosen

A file may be torch's or safetensors, hold the weights themselves or beside other things, and have the prefixes that
DataParallel, torch.compile, Lightning and others put before the names. It is checked key by key before anything is
loaded: either it has every weight of the network, in its shape, and nothing else, or nothing is loaded and the
differences are told. What is expected to differ is printed: a last layer may have another name; one for other classes
stays as it was initialised; a first convolution for another number of channels has its weights summed over the old
channels and shared equally among the new ones, so that a grey image gets the response that it would get as an RGB image
with three equal channels; auxiliary classifiers, which these networks leave out, are left out.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab.distributed import is_main
from cnnlab.errors import ConfigError, abridge, format_list
from cnnlab.models.head import find_head
from cnnlab.models.shapes import write_shape
from cnnlab.prefixes import starts

State = Mapping[str, Tensor]  # names and weights
Published = Mapping[str, Callable[[], State]]  # names of published weights, and how each is had

CHECKPOINTS = ("checkpoints/best.pt", "checkpoints/last.pt")  # of a run directory
PARTS = ("model", "state_dict", "model_state_dict", "state_dict_ema", "model_ema", "ema", "weights", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.")
COUNTERS = ("n_averaged",)  # of torch's averages, beside the weights
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # GoogLeNet's and Inception's classifiers for training only


def load_weights(network: nn.Module, source: str, published: Published, *, new_head: bool = True) -> None:
    """Put trained weights into a network; its last layer may be a new one, if `new_head` allows that.

    Raises ConfigError where they cannot be had or do not fit.
    """
    if source in published:
        state = published[source]()
    else:
        state = strip_prefixes(read_file(find_file(source, published)), network.state_dict())
    fit_weights(network, state, source, new_head=new_head)


def find_file(source: str, published: Published) -> Path:
    """The file that `source` names, or that of the run in that folder. Raises ConfigError if there is none."""
    path = Path(source)
    if path.is_dir():
        found = [path / name for name in CHECKPOINTS if (path / name).is_file()]
        if not found:
            raise ConfigError(
                f"model.weights: {source} is a folder without {' and '.join(CHECKPOINTS)}: no trained run"
            )
        return next((file for file in found if file.name == read_chosen(path)), found[0])
    if not path.is_file():
        choices = ", ".join([*published, "null"])
        raise ConfigError(f"model.weights: no file {source}; expected a file of weights, a run, or one of {choices}")
    return path


def read_chosen(run: Path) -> str | None:
    """The checkpoint that a run names as its result; None where that cannot be read."""
    try:
        return json.loads((run / "summary.json").read_text(encoding="utf-8"))["chosen"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_file(path: Path) -> State:
    """Names and tensors of a file. Raises ConfigError for one that is truncated, holds code or something else."""
    try:
        if zipfile.is_zipfile(path):  # torch's, with a checksum for every tensor, which torch does not look at
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise ConfigError(f"model.weights: {path} is damaged (the checksum of {damaged} is wrong)")
        if path.suffix == ".safetensors":
            contents: Any = read_safetensors(path)
        else:
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"model.weights: {path} is no file of weights, or holds more than tensors and plain containers: refused, "
            "for loading it could run code"
        ) from error
    except ConfigError:
        raise
    except Exception as error:  # of a truncated file torch raises what its decoders happen to raise
        raise ConfigError(f"model.weights: {path} cannot be read ({type(error).__name__}: {error})") from error
    while isinstance(contents, Mapping):
        part = next((part for part in PARTS if isinstance(contents.get(part), Mapping)), None)
        if part is None:
            break
        contents = contents[part]
    if isinstance(contents, Mapping):
        contents = {key: value for key, value in contents.items() if str(key).rpartition(".")[2] not in COUNTERS}
    if not isinstance(contents, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in contents.items()
    ):
        raise ConfigError(f"model.weights: {path} holds no weights; expected a mapping of names to tensors")
    return contents


def read_safetensors(path: Path) -> State:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ConfigError(f"model.weights: {path} needs the package safetensors: pip install safetensors") from None
    return load_file(path)


def strip_prefixes(state: State, own: State) -> State:
    """The weights without what stands before every name and before none of the network's `own`."""
    while True:
        common = [prefix for prefix in PREFIXES if state and all(key.startswith(prefix) for key in state)]
        common = [prefix for prefix in common if not all(key.startswith(prefix) for key in own)]
        if not common:
            # torchvision's files for DenseNet are older than the names in its code.
            return {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key): state[key] for key in state}
        state = {key.removeprefix(common[0]): value for key, value in state.items()}


def fit_weights(network: nn.Module, state: State, source: str, *, new_head: bool = True) -> None:
    """Load weights but for what is expected to differ, which is printed. Raises ConfigError that lists the rest."""
    own = network.state_dict()
    auxiliary = [key for key in state if key.startswith(AUXILIARY) and key not in own]
    changes = [f"the auxiliary classifiers in {source}, {len(auxiliary)} keys, are left out"] if auxiliary else []
    state = {key: value for key, value in state.items() if key not in auxiliary}
    changes += share_first_layer(network, state)
    heads = find_heads(network)
    changes += rename_head(heads[0], state, own) if len(heads) == 1 else []
    for head in heads if new_head else []:
        changes += keep_head(head, state, own)
    differences = compare(own, state)
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise ConfigError(f"model.weights: {source} does not fit this network, and nothing was loaded:\n{lines}")
    odd = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if odd:
        raise ConfigError(format_list(f"model.weights: {source} holds weights that are no finite numbers", odd))
    own.update(state)  # and not the other way round: what a state dict tells of its version stays
    network.load_state_dict(own)
    for change in changes if is_main() else []:
        print(f"model.weights: {change}", file=sys.stderr)


def find_heads(network: nn.Module) -> list[str]:
    """The names of the layers that make the logits: several in some of timm's networks, which say so."""
    told = getattr(network, "pretrained_cfg", {}).get("classifier")
    if told is None:
        return [find_head(network)]
    return [told] if isinstance(told, str) else list(told)


def rename_head(head: str, state: dict[str, Tensor], own: State) -> list[str]:
    """Call the only layer in `state` that the network lacks by the name of its `own` head, if that is missing.

    Returns what there is to tell of it.
    """
    ours = {key for key in own if starts(key, head)}
    foreign = [key for key in state if key not in own]
    (layer, *others) = {key.rpartition(".")[0] for key in foreign} or {""}
    renamed = {f"{head}{key.removeprefix(layer)}": key for key in foreign}
    if others or not layer or set(renamed) != ours or not ours.isdisjoint(state):
        return []
    for name, key in renamed.items():
        state[name] = state.pop(key)
    return [f"the last layer is called {layer} there: taken for {head}"]


def keep_head(head: str, state: dict[str, Tensor], own: State) -> list[str]:
    """Put the network's `own` head in the place of one in `state` that is another: for other classes, or deeper.

    Returns what there is to tell of it.
    """
    ours = {key: value for key, value in own.items() if starts(key, head)}
    theirs = {key: value for key, value in state.items() if starts(key, head)}
    shapes = [{key: value.shape for key, value in part.items()} for part in (ours, theirs)]
    if not theirs or shapes[0] == shapes[1]:
        return []
    for key in theirs:
        del state[key]
    state |= ours
    classes = [list(part.values())[-1].shape[0] for part in (theirs, ours)]
    if classes[0] == classes[1]:
        return [f"the last layer, {head}, is another: made anew"]
    return [f"the last layer, {head}, is for {classes[0]} classes: made anew for {classes[1]}"]


def share_first_layer(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Make the first convolution's weights in `state` those for as many channels as the network reads.

    Returns what there is to tell of it.
    """
    name, conv = next(((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    weight = state.get(f"{name}.weight")
    if conv is None or weight is None or weight.dim() != 4 or weight.shape[1] == conv.in_channels or conv.groups > 1:
        return []
    state[f"{name}.weight"] = share_channels(weight, conv.in_channels)
    return [f"the first layer, {name}, reads {weight.shape[1]} channels: summed for {conv.in_channels}"]


def share_channels(weight: Tensor, in_channels: int) -> Tensor:
    """(out, old, h, w) → (out, in_channels, h, w): the sum over the old channels, of which each new has its share."""
    return weight.sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels


def compare(own: State, state: State) -> list[str]:
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
    return [f"{len(keys)} {what}: {abridge(keys)}" for what, keys in lists if keys]
