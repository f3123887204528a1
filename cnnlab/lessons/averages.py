"""The mean over images is not the mean of the batches' means.

Stands on: losses.

A loss is reported for an epoch, and it comes in batches. Each batch gives its own mean, and the last batch is
usually smaller. One way to put them together is right, and three look right; the notes' CIFAR-10 program has
two of these:

    $(Σ mean · size) / (Σ size)$    right: each image counts once
    $(Σ mean) / batches$            the last, small batch counts as much as a full one
    $(Σ mean · size) / batches$     in the notes: too large by the batch size
    `total += correct / total`     in the notes: a count and a share in one variable, and 0 / 0 at the start

While training runs, the weights change from batch to batch, so the mean over an epoch is that of many
networks. While these improve, it lies above the loss of the last one, and a validation loss, taken after the
epoch, may well be smaller than the training loss of the same epoch.

Question: In the notes' CIFAR-10 program the loss starts near 600. Is the network wrong?
Answer: The printout is: each batch's mean is multiplied by 256, its size, and then divided by the number of
batches. Ten equal probabilities cost $log 10 = 2.303$, times 256 is 589. In the same program `acc` and
`best_acc` are printed and never computed: `acc` would be $100 · correct / total$, and correct is never
counted in the test loop.

Question: Where should an accuracy be printed?
Answer: After the loop over all batches. Inside, it is the accuracy of the images so far, in a new line for
every batch. In the notes' CIFAR-10 program nobody can tell which is meant: the web page has eaten its
indentation.

On real data: cnnlab sums losses and counts on the device and divides by the images, once.

    cnnlab train dataset=digits batch_size=100
"""

from __future__ import annotations

import torch

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import COLORS
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def compute(*, images: Count = 800, batch_size: Count = 256, seed: Whole = 0) -> Values:
    with seeded(seed):
        losses = 2.3 + 0.3 * torch.randn(images)  # one for each image
    losses[-(images % batch_size) :] += 2 if images % batch_size else 0  # the last batch happens to be hard
    batches = losses.split(batch_size)
    means, sizes = [batch.mean().item() for batch in batches], [len(batch) for batch in batches]
    weighted = sum(mean * size for mean, size in zip(means, sizes, strict=True))
    return {
        "means": means,
        "sizes": sizes,
        "over images": losses.mean().item(),
        "right": weighted / sum(sizes),
        "of means": sum(means) / len(means),
        "notes": weighted / len(means),
    }


def show(values: Values) -> Parts:
    numbered = enumerate(zip(values["sizes"], values["means"], strict=True), start=1)
    batches = [[number, size, mean] for number, (size, mean) in numbered]
    return [
        Table(["batch", "images", "mean loss"], batches),
        Table(
            ["the epoch's loss, as", "value"],
            [
                ["the mean over all images", values["over images"]],
                ["sum of mean · size, over all images", values["right"]],
                ["mean of the batches' means", values["of means"]],
                ["sum of mean · size, over the batches", values["notes"]],
            ],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    """Each batch as a bar as wide as its images; the mean over images lies where the areas are equal."""
    axes = figure.subplots()
    left = 0
    for mean, size in zip(values["means"], values["sizes"], strict=True):
        axes.bar(left, mean, width=size, align="edge", color=COLORS[0], edgecolor="white", alpha=0.6)
        left += size
    axes.axhline(values["right"], color=COLORS[1], label="mean over images")
    axes.axhline(values["of means"], color="black", linestyle="--", label="mean of the batches' means")
    axes.set(xlabel="images, batch by batch", ylabel="mean loss of the batch")
    axes.legend(loc="upper left")


EXERCISES = [
    Exercise(
        "Batches of 100, 100 and 50 images have mean losses 1, 1 and 3. The mean over images?",
        lambda: (100 * 1 + 100 * 1 + 50 * 3) / 250,
        "Weight each batch by its images.",
        slips={5 / 3: "That is the mean of the means."},
    ),
    Exercise(
        "A loss is printed as 589.4 with batches of 256, all full. What is the mean over images?",
        lambda: 589.4 / 256,
        "It was multiplied by the batch size.",
    ),
    Exercise(
        "54,000 images in batches of 64: how many images are in the last batch?",
        lambda: 54000 % 64,
        "The remainder of 54,000 / 64.",
        slips={64: "54,000 is no multiple of 64."},
    ),
]
