"""Case: 120 breeds of dogs, with a network that knows ImageNet.

Stands on: fine_tuning, augmentation, schedules, cross_entropy.

10,222 photographs of 120 breeds, 10,357 to be predicted: eighty-five pictures a breed, too few to learn from
scratch. The notes take ResNet-34 with its ImageNet weights, freeze it, put linear 512 → 256 → ReLU → 120 in
place of its last layer, and train that: random resized crops of 224, mirror images, colours; SGD, lr 0.03,
momentum 0.9, batches of 128; times 0.1 after 10 of 20 epochs; the log loss of 120 probabilities is scored.

Look at: the log loss, not the accuracy. Guessing costs $log 120 = 4.787$, and one confident mistake costs as
much as several guesses: a breed given 0.001 costs 6.9. The breeds are a part of ImageNet's own classes, so the
frozen features have seen these very photographs with their labels: scores here say little about other dogs.

In the notes: labels are looked up, and pictures copied into four trees, which takes the disk twice;
`cnnlab train` reads the folders as they are. The split shuffles `os.listdir`, whose order a seed does not fix
(lesson `repeat`). Crops are "0.081" of the area and "3/44/3" as wide as high: the web page ate the ~ in 0.08~1 and
3/4~4/3. Ids come from the sorted folder and probabilities from the loader; both happen to be in the same order
here, and nothing in the program would tell if they were not. And the worst last: the fit on everything has no
validation, so nobody calls `eval()` before the test pictures are predicted. Batch normalisation then uses the
averages of each batch, and a picture's probabilities depend on which others stand beside it
(lesson `batch_norm`). (`pretrained=False` and then a file of weights is right; it only reads oddly.)

Try next: `model.feature_views=20`, to look at new crops in every epoch as the notes do; `model.unfreeze_after`,
to go on with all layers at a small rate; the mean of several networks, `cnnlab predict RUN RUN`.

The test set: Kaggle's. Tune on train and valid, then fit once on both with the settings found
(`fit_on=train_valid`), predict, and hand in.

Question: What score should I expect?
Answer: The notes publish none, and this lesson has none of its own, for neither the photographs nor ResNet-34's
weights come with cnnlab. What the notes do tell is the time: 40 to 50 minutes for the full training set, on
their GPU. What can be computed without the photographs is in the tables.

On real data: DIR is the download as Kaggle unzips it, resnet34.pth torchvision's file of weights.

    cnnlab prepare dataset=dog_breeds dataset.root=DIR
    cnnlab train experiment=dog_breeds_resnet34 dataset.root=DIR model.weights=resnet34.pth
    cnnlab train experiment=dog_breeds_resnet34 dataset.root=DIR model.weights=resnet34.pth fit_on=train_valid
    cnnlab predict outputs/NAME/DATE_TIME
"""

from __future__ import annotations

import math

import torch
from torch import nn

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Fraction, Positive


def compute(
    *,
    images: Count = 10_222,
    valid_ratio: Fraction = 0.1,
    batch_size: Count = 128,
    lr: Positive = 0.03,
    epochs: Count = 20,
) -> Values:
    valid = int(images * valid_ratio)  # as the notes round it
    with torch.device("meta"):  # shapes without numbers: enough to count
        head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 120))
    resnet34_without_fc = 21_284_672  # parameters, torchvision's
    probabilities = torch.tensor([0.9, 0.5, 1 / 120, 0.001])
    return {
        "train": images - valid,
        "valid": valid,
        "steps": -(-(images - valid) // batch_size),
        "head": sum(p.numel() for p in head.parameters()),
        "frozen": resnet34_without_fc,
        "guess": math.log(120),
        "costs": [(p, -math.log(p)) for p in probabilities.tolist()],
        "lr": [lr * 0.1 ** (epoch // 10) for epoch in range(epochs)],
    }


def show(values: Values) -> Parts:
    share = values["head"] / (values["head"] + values["frozen"])
    return [
        Table(
            ["", "number"],
            [
                ["photographs to learn from", values["train"]],
                ["photographs to choose by", values["valid"]],
                ["steps an epoch", values["steps"]],
                ["weights that learn: the head", values["head"]],
                ["weights that are frozen", values["frozen"]],
            ],
        ),
        f"{share:.2%} of the weights learn. Guessing among 120 costs {values['guess']:.3f}.",
        Table(["probability given to the right breed", "its log loss"], [list(row) for row in values["costs"]]),
        f"The rate: {values['lr'][0]:g} in the first epoch, {values['lr'][-1]:g} in the last.",
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = figure.subplots()
    p = torch.linspace(0.001, 1, 400)
    axes.plot(p.numpy(), -p.log().numpy())
    axes.axhline(values["guess"], color="gray", linewidth=0.8)
    axes.text(1, values["guess"] + 0.1, "guessing among 120", ha="right", fontsize=8)
    axes.set(xlabel="probability given to the right breed", ylabel="log loss")


EXERCISES = [
    Exercise(
        "With batches of 64 in place of 128: how many steps has an epoch on the notes' training part?",
        lambda: compute(batch_size=64)["steps"],
        "int(10,222 · 0.1) pictures are put aside; the others / 64, rounded up.",
        slips={143: "The last, smaller batch is a step as well.", 160: "The validation pictures are no part of it."},
    ),
    Exercise(
        "Two pictures: the right breeds were given 0.5 and 0.02. The log loss of the two?",
        lambda: (-math.log(0.5) - math.log(0.02)) / 2,
        "The mean of −log p.",
    ),
    Exercise(
        "lr 0.03, times 0.5 after every 5 epochs: the rate in epoch 12, counted from 0?",
        lambda: 0.03 * 0.5 ** (12 // 5),
        "How often has it been halved by then?",
    ),
]
