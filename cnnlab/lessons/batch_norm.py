"""Batch normalisation has two modes, and looking at a network can change it.

In training it normalises each channel with the mean and variance of the *batch*, and keeps running
averages on the side; in evaluation it uses those averages:

    running ← 0.9 · running + 0.1 · batch        (the variance with n − 1 below)

The running averages are no parameters. They move in every forward pass in training mode, also under
`no_grad`, also on test images. So `eval()` has to come before the first test image, not after it; the
notes send a batch through first, and the averages have moved.

Question: Is `torch.no_grad()` not the same as `eval()`?
Answer: No. `no_grad` saves the memory of the backward pass and changes no number. `eval` changes what
batch normalisation and dropout compute. A test needs both. (And it is `no_grad()`; `torch.no.grad`, as
the notes have it, does not exist.)

On real data: twenty layers of it; evaluation leaves each as it was.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Count, Whole


def normalize_batch(x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """What a new layer computes in training: each channel of (N, C, h, w) by its batch mean and variance."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = x.var(dim=(0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + epsilon).sqrt()


def compute(*, batch_size: Count = 8, seed: Whole = 0) -> Values:
    layer = nn.BatchNorm2d(1)
    with seeded(seed):
        x = 5 + 2 * torch.randn(batch_size, 1, 4, 4)
    steps = [["new", layer.running_mean.item(), layer.running_var.item()]]
    with torch.no_grad():
        training_output = layer(x)
        steps.append(["after a look in training mode, under no_grad", *_running(layer)])
        layer.eval()
        layer(x)
        steps.append(["after a look in evaluation mode", *_running(layer)])
    return {
        "steps": steps,
        "batch_mean": x.mean().item(),
        "batch_variance": x.var().item(),
        "own": normalize_batch(x),
        "theirs": training_output,
    }


def _running(layer: nn.BatchNorm2d) -> tuple[float, float]:
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean.item(), layer.running_var.item()


def show(values: Values) -> Parts:
    mean, variance = values["batch_mean"], values["batch_variance"]
    difference = (values["own"] - values["theirs"]).abs().max().item()
    return [
        Table(["the layer", "running mean", "running variance"], values["steps"]),
        f"By hand: 0.9·0 + 0.1·{mean:.4f} = {0.1 * mean:.4f} and 0.9·1 + 0.1·{variance:.4f} = "
        f"{0.9 + 0.1 * variance:.4f}.",
        f"The normalised batch, by hand and by nn.BatchNorm2d, differs by at most {difference:.0e}.",
    ]
