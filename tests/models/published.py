"""What the tests of a family hold against published networks: torchvision's outputs, and papers' counts."""

from __future__ import annotations

import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnlab.models import MODELS
from cnnlab.models.shapes import Layer, require_size
from tests.conftest import build_from
from tests.models.pinned import IMAGENET


def build(name: str, /, facts: dict = IMAGENET, **arguments: object) -> nn.Module:
    """The registered network in evaluation mode, on the meta device: shapes and no numbers."""
    with torch.device("meta"):
        return build_from(MODELS, {"name": name, **arguments}, **facts).eval()


def layers_of(network: nn.Module, image_size: int, in_channels: int = 3) -> dict[str, Layer]:
    """The layers that an image passes, by their names."""
    return {layer.name: layer for layer in require_size(network, in_channels, image_size)}


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, image_size: int, in_channels: int = 3) -> int:
    """Multiplications in the convolutions and linear layers, for one image; for a network on "meta"."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, in_channels, image_size, image_size, device="meta"))
    return counter.get_total_flops() // 2


def fill(network: nn.Module) -> None:
    """Random numbers that keep signals about as large as they are, running statistics included."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.zeros_(module.num_batches_tracked)


def assert_takes_torchvision_weights(
    name: str, image_size: int, theirs: dict | None = None, **arguments: object
) -> None:
    """Our network loads torchvision's state by name and makes the same logits.

    `theirs` are arguments of torchvision's builder, `arguments` those of ours.
    """
    with torch.device("meta"):
        reference = getattr(torchvision.models, name)(**(theirs or {}))
    reference = reference.to_empty(device="cpu").eval()
    fill(reference)
    network = build(name, **arguments)
    network.load_state_dict(reference.state_dict(), assign=True)

    images = torch.randn(1, 3, image_size, image_size)
    with torch.no_grad():
        expected, logits = reference(images), network(images)
    assert expected.std() > 0.1, "the signal has died on the way: this comparison would prove nothing"
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * expected.std().item())
    assert num_parameters(network) == num_parameters(reference)
    assert list(network.state_dict()) == list(reference.state_dict())
