"""Case: CIFAR-10 on Kaggle, from folders to a submission.

Stands on: residual, augmentation, batch_norm, schedules, averages.

50,000 photographs of 32×32 in ten classes with their labels in a table, and 300,000 to be predicted, of which
Kaggle scores 10,000. The notes train ResNet-18 from scratch: crops after padding by 4, mirror images, SGD with
lr 0.1, momentum 0.9, weight decay 0.0005, batches of 256, 20 epochs. They publish no accuracy.

Look at: the validation loss of the first epoch, which may be far above the training loss (3.01 against 1.74
here): batch normalisation's averages are young, and the rate is still rising. And look at the gap at the end:
train 0.767 and valid 0.768 are equal, so six epochs are too few rather than too many.

In the notes: with `torch.no.grad`, `_.predicted`, `toldevice` and `total += correct/total` the test loop cannot
run.
`acc` and `best_acc` are never computed. The loss is printed 256 times too large (lesson `averages`). The best
epoch is chosen on the test images (lesson `best_epoch`). The red channel is normalised by 0.4731 and 0.2212; its
pixels have 0.4914 and 0.2470 (lesson `normalize`). A class is called `forg`. `torch.version` is a module; the
version is `torch.__version__`. A comment promises three 3×3 layers for a 7×7 one, and there is one
(lesson `small_kernels`).

Try next: the real recipe, if there is a GPU: ResNet-18 for 20 epochs. On two cores it computes 54 images a
second, which makes 14 minutes an epoch; ResNet-20, with a fortieth of the weights, computes about 700. Then
more epochs, `augment=[flip_crop,cutmix]`, `average=ema`.

The test set: Kaggle has it. Every choice is made on the 5,000 validation images, and the final fit may use them
too: `fit_on=train_valid epochs=...`. File names are strings: sorted, 10.png comes before 2.png, so a list of
predictions must carry its ids; `cnnlab predict` writes the ids of the sample submission in its order.

Question: Are our numbers comparable with Kaggle's?
Answer: No. They were measured on copies of CIFAR-10 that were saved as JPEG (quality 75), in Kaggle's folders,
and lie some points below those of the originals. The submission for 10,000 test images was scored by their
true labels.

On real data: DIR is the download as Kaggle unzips it. The first command is the notes' recipe; the second is
the one whose curves are shown, 400 seconds on two cores.

    cnnlab train experiment=cifar10_resnet18 dataset.root=DIR
    cnnlab train experiment=cifar10_resnet18 dataset.root=DIR model=resnet20 epochs=6 schedule=one_cycle
    cnnlab predict outputs/NAME/DATE_TIME
"""

from __future__ import annotations

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.pictures import draw_epochs, panels
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count

# cnnlab train experiment=cifar10_resnet18 dataset.root=DIR model=resnet20 epochs=6 schedule=one_cycle, JPEG copies
EPOCHS = {
    "train loss":     [1.7430, 1.2583, 1.0299, 0.8728, 0.7436, 0.6615],
    "valid loss":     [3.0148, 1.3011, 1.1097, 0.9909, 0.7392, 0.6710],
    "train accuracy": [0.3446, 0.5431, 0.6315, 0.6893, 0.7350, 0.7672],
    "valid accuracy": [0.3226, 0.5436, 0.6188, 0.6728, 0.7412, 0.7680],
}  # fmt: skip
TEST_ACCURACY = 0.7651  # of 10,000 that were predicted, by their true labels
IMAGES_A_SECOND = {"resnet20": 700, "resnet18_cifar": 54}  # in training, two CPU cores


def compute(*, images: Count = 45_000, batch_size: Count = 256) -> Values:
    return {
        "epochs": EPOCHS,
        "test_accuracy": TEST_ACCURACY,
        "steps": -(-images // batch_size),
        "minutes": {name: images / speed / 60 for name, speed in IMAGES_A_SECOND.items()},
        "sorted_names": sorted(["1.png", "2.png", "10.png", "100.png"]),
    }


def show(values: Values) -> Parts:
    epochs = values["epochs"]
    rows = [[epoch + 1, *(curve[epoch] for curve in epochs.values())] for epoch in range(len(epochs["train loss"]))]
    minutes = [[name, IMAGES_A_SECOND[name], value] for name, value in values["minutes"].items()]
    return [
        Table(["epoch", *epochs], rows),
        f"Predicted and scored: {values['test_accuracy']:.4f} of 10,000 test images. Guessing: 0.1.",
        Table(["network", "images a second", "minutes an epoch"], minutes),
        f"{values['steps']} steps an epoch. Sorted as strings: {', '.join(values['sorted_names'])}.",
    ]


def draw(values: Values, figure: Figure) -> None:
    epochs = values["epochs"]
    left, right = panels(figure, 2)
    draw_epochs(left, {name: epochs[name] for name in ("train accuracy", "valid accuracy")}, {}, "accuracy")
    draw_epochs(right, {name: epochs[name] for name in ("train loss", "valid loss")}, {}, "loss")


EXERCISES = [
    Exercise(
        "With 50,000 images and batches of 256: how many steps has an epoch?",
        lambda: compute(images=50_000)["steps"],
        "50,000 / 256, rounded up.",
        slips={195: "The last, smaller batch is a step as well."},
    ),
    Exercise(
        "The notes print a loss every 20 steps. How many lines is that in an epoch of 196 steps?",
        lambda: 196 // 20,
        "After step 20, 40 and so on.",
    ),
    Exercise(
        "The names 9.png, 10.png, 8.png sorted as strings: which comes first? Its number.",
        lambda: int(sorted(["9.png", "10.png", "8.png"])[0].removesuffix(".png")),
        "Strings are compared letter by letter.",
        slips={8: "Strings are compared letter by letter: 1 comes before 8."},
    ),
]
