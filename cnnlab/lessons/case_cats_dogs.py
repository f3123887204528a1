"""Case: cats and dogs, one of two.

Stands on: problems, repeat, augmentation, best_epoch.

25,000 photographs whose names say what is on them, cat.0.jpg to dog.12499.jpg, and 12,500 to be predicted; what
is handed in is the probability of a dog. Two of the notes set out for it. One ends with an error and "to be
continued", the other counts its files and gets different numbers on two computers. Neither trains a network.

Look at: the first epochs, in which nothing seems to happen: 0.5 is guessing, and two of the ten end near it. And
look at the log loss of the submission: guessing costs 0.693, and a confident mistake costs most.

In the notes: `else` makes a dog of everything that is not a cat, files of the operating system included, and
`os.listdir` has no order: hence two results (lesson `repeat`). One-hot labels are explained and indices used,
which is right (lesson `one_hot`). Paths are glued together by `dir + '/train/'`, with `dir` the name of one of
Python's own functions; `os.path.join` and `pathlib` know the separators.

Try next: Kaggle's photographs and the recipe of the experiment, which begins with ImageNet weights: first a new
head, then everything at a tenth of the rate (lesson `fine_tuning`). `dataset.task=binary` for one output in place of
two; `--tta flip` for the prediction.

The test set: Kaggle's 12,500. The validation images are a tenth of the 25,000, the same share of both.

Question: Are these Kaggle's photographs?
Answer: No: those do not come with cnnlab. The curves are of the 10,000 cats and dogs of CIFAR-10, 32×32 (JPEG
copies), in Kaggle's folders and with Kaggle's names, and of a small network from scratch; the 2,000 of its test
part were predicted and scored by their true labels. Kaggle's photographs are larger and easier.

On real data: DIR is the download as Kaggle unzips it. The first command is for the photographs, with ImageNet
weights; the second is the one whose curves are shown, 164 seconds on two cores.

    cnnlab train experiment=dogs_vs_cats dataset.root=DIR model.weights=resnet34.pth
    cnnlab train dataset=dogs_vs_cats dataset.root=DIR dataset.image_size=32 dataset.resize=null model=resnet20 augment=flip_crop optimizer=sgd optimizer.lr=0.1 optimizer.momentum=0.9 optimizer.weight_decay=0.0005 schedule=one_cycle batch_size=128 epochs=10 split.test=0
    cnnlab predict outputs/NAME/DATE_TIME
"""  # noqa: E501

from __future__ import annotations

import math

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_epochs, panels
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count

# The second command of this page: metrics.csv, and the submission against the true labels.
EPOCHS = {
    "train loss":     [0.6978, 0.6950, 0.6881, 0.6093, 0.5642, 0.5219, 0.4911, 0.4660, 0.4271, 0.4106],
    "valid loss":     [1.0199, 1.2644, 0.6308, 0.5630, 0.5380, 0.5626, 0.4822, 0.4455, 0.4471, 0.4424],
    "train accuracy": [0.5561, 0.5801, 0.5992, 0.6688, 0.7066, 0.7347, 0.7588, 0.7729, 0.8021, 0.8096],
    "valid accuracy": [0.5540, 0.5110, 0.6340, 0.7150, 0.7310, 0.7200, 0.7620, 0.7920, 0.7870, 0.7910],
}  # fmt: skip
TEST = {"accuracy": 0.8005, "log loss": 0.4306}  # of 2,000


def compute(*, test_images: Count = 2000) -> Values:
    p = TEST["accuracy"]
    return {
        "epochs": EPOCHS,
        "best_epoch": 1 + max(range(10), key=lambda epoch: EPOCHS["valid accuracy"][epoch]),
        "test": TEST,
        "guess": {"accuracy": 0.5, "log loss": math.log(2)},
        "standard_error": (p * (1 - p) / test_images) ** 0.5,
    }


def show(values: Values) -> Parts:
    epochs = values["epochs"]
    rows = [[epoch + 1, *(curve[epoch] for curve in epochs.values())] for epoch in range(10)]
    test, guess = values["test"], values["guess"]
    return [
        Table(["epoch", *epochs], rows),
        f"The best epoch by validation accuracy: {values['best_epoch']}. With its weights, on 2,000 test images:",
        Table(["", "accuracy", "log loss"], [["predicted", *test.values()], ["guessing", *guess.values()]]),
        f"One standard error of the accuracy: {values['standard_error']:.4f}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    epochs = values["epochs"]
    left, right = panels(figure, 2)
    draw_epochs(left, {name: epochs[name] for name in ("train accuracy", "valid accuracy")}, {}, "accuracy")
    left.axhline(0.5, color="gray", linewidth=0.8)
    draw_epochs(right, {name: epochs[name] for name in ("train loss", "valid loss")}, {}, "loss")
    right.axhline(math.log(2), color="gray", linewidth=0.8)


EXERCISES = [
    Exercise(
        "It says 0.8 dog for a dog and 0.4 dog for a cat. The log loss of the two?",
        lambda: (-math.log(0.8) - math.log(0.6)) / 2,
        "The cat was given 0.6. Then the mean of −log p.",
    ),
    Exercise(
        "It says 0.99 dog for a cat. What does that picture cost?",
        lambda: -math.log(0.01),
        "The cat was given 0.01.",
        slips={-math.log(0.99): "That would be its cost if it were a dog."},
    ),
    Exercise(
        "Which label has dog.7.jpg, counted as the notes and Kaggle do?",
        lambda: 1,
        "cat 0, dog 1.",
    ),
]
