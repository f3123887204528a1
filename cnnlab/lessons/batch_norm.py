"""Batch normalisation has two modes, and looking at a network can change it.

Stands on: normalize, constants.

In training it normalises each channel with the mean and variance of the *batch*, and keeps running
averages on the side; in evaluation it uses those averages:

    $running ← 0.9 · running + 0.1 · batch$        (the variance divided by n − 1)

The running averages are no parameters. They move in every forward pass in training mode, also under
`no_grad`, also on test images. So `eval()` has to come before the first test image, not after it.

Question: Is `torch.no_grad()` not the same as `eval()`?
Answer: No. `no_grad` saves the memory of the backward pass and changes no number. `eval` changes what
batch normalisation and dropout compute. A test needs both. (And it is `no_grad()`; `torch.no.grad`, as
the notes have it, does not exist.)

Question: The notes call `net.eval()` inside the loop over the test batches. Is that wrong?
Answer: It works, because it stands before the batch is sent through; once, before the loop, would do. What
must not be missing is `net.train()` at the start of the next epoch, which they have, and the order: with
`eval()` after `net(images)` the first test batch would be normalised by itself and would move the averages.

On real data: twenty layers of it. Each has two parameters a channel, a scale and a shift; its running
averages are not counted among them.

    cnnlab inspect model=resnet18_cifar dataset=cifar10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
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


def draw(values: Values, figure: Figure) -> None:
    """The running mean over forty looks at images of mean 5, then forty more in evaluation mode, of mean 0."""
    layer, means = nn.BatchNorm2d(1), []
    with seeded(0), torch.no_grad():
        for look in range(80):
            layer.train(look < 40)
            layer((5 if look < 40 else 0) + 2 * torch.randn(8, 1, 4, 4))
            means.append(_running(layer)[0])
    axes = figure.subplots()
    axes.plot(range(1, 81), means)
    axes.axvline(40.5, color="gray", linewidth=0.8)
    axes.text(39, 0.3, "train()", ha="right")
    axes.text(42, 0.3, "eval()")
    axes.set(xlabel="batch", ylabel="running mean", ylim=(0, 5.6))


EXERCISES = [
    Exercise(
        "A new layer (running mean 0) sees a batch of mean 5 in training mode. Its running mean?",
        lambda: 0.9 * 0 + 0.1 * 5,
        "0.9 · running + 0.1 · batch.",
        slips={5: "It moves a tenth of the way."},
    ),
    Exercise(
        "How many such batches until the running mean is above 4?",
        lambda: next(n for n in range(1, 100) if 5 * (1 - 0.9**n) > 4),
        "After n batches it is 5·(1 − 0.9ⁿ).",
    ),
    Exercise(
        "A BatchNorm2d(64): how many parameters does the optimizer get?",
        lambda: sum(p.numel() for p in nn.BatchNorm2d(64).parameters()),
        "A scale and a shift for each channel; running averages are none.",
        slips={256: "Running averages are buffers."},
    ),
]
