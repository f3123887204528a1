"""Normalising images: subtract the mean, divide by the standard deviation, channel by channel.

Stands on: channels.

Pixels between 0 and 1 are all positive, and channels differ in brightness and contrast. After

    $x ← (x − mean) / std$        one mean and one std for each channel

each channel has mean 0 and standard deviation 1, and one learning rate suits all. The two are measured
once, over all pixels of all *training* images, and then used for test images too.

A Python trap: `(0.1307)` is a number, `(0.1307,)` is a tuple. With a single channel nobody notices that
the notes write the first; with three, one number would be used for all. (That is also what the notes'
`np.mean(data)` and `np.std(data)` give: one number over all channels. `data.mean(axis=(0, 2, 3))` gives three.)

Question: Can I measure the std of each image and average those?
Answer: No. Images differ in their means, and that difference is part of the spread; within single
images it is missing. The average is always too small, as the table shows. The notes' 0.1994 and 0.2010
for CIFAR-10 are such averages; over all its pixels the green and blue channels have 0.2435 and 0.2616.

Question: The notes' red channel has the mean 0.4731 and the std 0.2212. What does a wrong pair cost?
Answer: Little, if training and test use the same one. Measured over all training images of CIFAR-10 red has
0.4914 and 0.2470 (0.2023 as an average of stds; the notes' two are misprints). Normalised by the notes'
pair, red has the mean $(0.4914 − 0.4731) / 0.2212 = 0.083$ and the std $0.2470 / 0.2212 = 1.117$ in place of 0
and 1, which the first layer's weights make up for.

On real data: cnnlab measures both on the training images and keeps them in the run's dataset.json, for
predictions later.

    cnnlab train dataset=digits
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole


def measure(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all images and pixels: (N, C, h, w) → (C,), (C,)."""
    mean = images.mean(dim=(0, 2, 3))
    deviation = images - mean[:, None, None]
    return mean, deviation.square().mean(dim=(0, 2, 3)).sqrt()


def compute(*, num_images: Count = 200, seed: Whole = 0) -> Values:
    with seeded(seed):
        brightness = 0.2 + 0.6 * torch.rand(num_images, 3, 1, 1)
        contrast = torch.tensor([0.05, 0.1, 0.15])[:, None, None]
        images = (brightness + contrast * torch.randn(num_images, 3, 16, 16)).clamp(0, 1)
    mean, std = measure(images)
    normalized = (images - mean[:, None, None]) / std[:, None, None]
    new_mean, new_std = measure(normalized)
    return {
        "images": images,
        "mean": mean,
        "std": std,
        "average_of_stds": images.std(dim=(2, 3), correction=0).mean(dim=0),
        "normalized": normalized,
        "new_mean": new_mean,
        "new_std": new_std,
    }


def show(values: Values) -> Parts:
    names = ("mean", "std", "average_of_stds", "new_std")
    rows = [
        [color, *(values[name][channel].item() for name in names)]
        for channel, color in enumerate(("red", "green", "blue"))
    ]
    return [
        Table(["channel", "mean", "std of all pixels", "average of the images' stds", "std afterwards"], rows),
        f"Means afterwards are zero to within {values['new_mean'].abs().max():.0e}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    left, right = panels(figure, 2)
    for axes, name in ((left, "images"), (right, "normalized")):
        for channel, color in enumerate(("red", "green", "blue")):
            pixels = values[name][:, channel].flatten().numpy()
            axes.hist(pixels, bins=60, histtype="step", color=color)
        axes.set(title=name, xlabel="pixel", yticks=[])


EXERCISES = [
    Exercise(
        "Two images, one all 0 and one all 1: the std of all pixels?",
        lambda: measure(torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]))[1].item(),
        "The mean is 0.5, and each pixel lies 0.5 from it.",
        slips={0: "That is the average of the images' own stds."},
    ),
    Exercise(
        "MNIST: mean 0.1307, std 0.3081. What becomes of a black pixel, 0?",
        lambda: (0 - 0.1307) / 0.3081,
        "(0 − mean) / std.",
    ),
    Exercise(
        "What is the length of the tuple that Python makes of (0.1307,)?",
        lambda: len((0.1307,)),
        "One comma, one entry.",
    ),
]
