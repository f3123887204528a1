"""Augmentation: the same image, a little different each time.

Stands on: normalize, padding.

A cat that is moved by two pixels, or seen in a mirror, is still a cat. To a network it is another image, and
one that nobody had to label. So training images are changed at random each time they are seen, in ways that
leave their labels true:

    pad 4, crop 32    nine positions down and nine across, $9 · 9 = 81$ views; mirrored too, 162
    resize 40, crop 32   also 81 positions, on an enlarged image: things look larger, borders fall away
    random resized crop  a box of 8 % to 100 % of the area, 3/4 to 4/3 as wide as high, resized to 224
    colour jitter        brightness, contrast and saturation times a number from 0.6 to 1.4

Test images are left alone: resized, cropped in the middle, normalised. Below, a network learns to tell a
plus sign from a cross, from forty images in which they stand in one position; it is tested on images where
they may stand anywhere.

Question: Which augmentation is the right one?
Answer: One that makes images as they might also have come. Mirror photographs, but not digits: a mirrored
2 is no 2. Do not turn a 6 upside down. Moving is nearly always right.

Question: The notes normalise before or after?
Answer: After, and rightly: crops and colours work on pixels from 0 to 1, and the zeros of the padding are
black, which normalising turns into $(0 − mean) / std$, about −2. Padded after normalising, the frame would
have the colour of the mean instead: another border, but no mistake either, if tests never pad.

On real data: digits with small moves and without; compare the test accuracies, about 99 and 98 %.

    cnnlab train dataset=digits augment=shift
    cnnlab train dataset=digits augment=none

The notes' two recipes for CIFAR-10 are `augment=flip_crop` (pad 4, crop 32) and `augment=enlarge_crop` (resize 40,
crop 32):

    cnnlab inspect dataset=cifar10 augment=enlarge_crop --plot
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_matrix, panels
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Whole

PLUS = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
CROSS = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])


def crop(images: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """From each image of (N, C, H, W) the size×size part whose top left corner is given for it."""
    parts = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, positions down, positions across, size, size)
    return parts[torch.arange(len(images)), :, rows, columns]


def shift(images: Tensor, pixels: int) -> Tensor:
    """Pad by `pixels`, then crop the old size anywhere: each image moved by up to that many pixels."""
    padded = F.pad(images, (pixels, pixels, pixels, pixels))
    rows, columns = torch.randint(0, 2 * pixels + 1, (2, len(images)))
    return crop(padded, rows, columns, images.shape[2])


def draw_signs(number: int, positions: int) -> tuple[Tensor, Tensor]:
    """Pluses (class 0) and crosses (class 1) on 12×12 images, in `positions`² different positions, with noise."""
    labels = torch.arange(number) % 2
    images = 0.2 * torch.randn(number, 1, 12, 12)
    corners = 4 + torch.randint(0, positions, (number, 2)) - positions // 2
    for image, label, (i, j) in zip(images, labels, corners.tolist(), strict=True):
        image[0, i : i + 3, j : j + 3] += CROSS if label else PLUS
    return images, labels


def train(images: Tensor, labels: Tensor, pixels: int, steps: int) -> nn.Module:
    """A small network after some steps of SGD; its images are moved by up to `pixels` anew in each step."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(shift(images, pixels) if pixels else images), labels).backward()
        optimizer.step()
    return net


def compute(*, pixels: Whole = 4, steps: Count = 400, seed: Whole = 0) -> Values:
    accuracies = {}
    for name, moved in (("as they are", 0), (f"moved by up to {pixels} pixels", pixels)):
        with seeded(seed):
            images, labels = draw_signs(40, positions=1)
            test_images, test_labels = draw_signs(1000, positions=9)
            net = train(images, labels, moved, steps)
            right = [
                (net(x).argmax(dim=1) == y).float().mean().item()
                for x, y in ((images, labels), (test_images, test_labels))
            ]
        accuracies[name] = right
    with seeded(seed):
        example = torch.arange(25.0).reshape(1, 1, 5, 5)
        views = shift(example.expand(3, -1, -1, -1), 2)[:, 0]
    return {"accuracies": accuracies, "example": example[0, 0], "views": views, "views_of_32": (2 * 4 + 1) ** 2 * 2}


def show(values: Values) -> Parts:
    return [
        {"an image": values["example"], **{f"view {i + 1}": view for i, view in enumerate(values["views"])}},
        f"Padded by 4, cropped to 32 and mirrored or not, an image has {values['views_of_32']} views.",
        Table(
            ["training images", "right of them", "right of 1,000 that stand anywhere"],
            [[name, *right] for name, right in values["accuracies"].items()],
        ),
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = panels(figure, 4, in_a_row=4, narrow=2)
    draw_matrix(axes[0], values["example"], "an image")
    for i, view in enumerate(values["views"]):
        draw_matrix(axes[i + 1], view, f"view {i + 1}")


EXERCISES = [
    Exercise(
        "Resize to 40, crop 32 at random: in how many positions?",
        lambda: (40 - 32 + 1) ** 2,
        "As a 32×32 window on 40×40.",
        slips={64: "A window has n − k + 1 positions on a side.", 81 * 2: "Mirror images were not asked for."},
    ),
    Exercise(
        "Should digits be mirrored? (yes or no)",
        lambda: "no",
        "Hold a 2 before a mirror.",
    ),
    Exercise(
        "A random resized crop may be as small as 8 % of the area. A square one of that area, of a 500×500 photograph: "
        "its side in pixels?",
        lambda: (0.08 * 500 * 500) ** 0.5,
        "The root of the area.",
        slips={40: "8 % of the area, not of the side."},
    ),
]
