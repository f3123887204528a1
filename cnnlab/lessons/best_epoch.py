"""The best epoch on the test set is luck, counted as skill.

Stands on: losses.

Train for twenty epochs, test after each, report the best: the notes do it, and many others. But a test
accuracy is a measurement with noise: of n images each is right with probability p, so it scatters by

    $standard error = √(p (1 − p) / n)$

and the largest of twenty measurements is one that had luck. Here a network has learned all it will
learn before the first epoch; every epoch has the same true accuracy. We choose the best epoch a
thousand times, on the test set, and honestly: on validation images, and then look at the test set once.

Question: How much does it matter on a large test set?
Answer: Little: with 10,000 images the standard error at 80 % is 0.4 points, and the best of twenty
gains less than two of them. But networks are often ranked by less than that. And the same mistake with
hundreds of settings instead of twenty epochs is no longer little.

On real data: training images are split; the test set is looked at once, at the end.

    cnnlab train dataset=digits
"""

from __future__ import annotations

import torch

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Figure, Parts, Table, Values
from cnnlab.signature import Count, Fraction, Whole

REPEATS = 1000


def compute(*, accuracy: Fraction = 0.8, num_images: Count = 1000, epochs: Count = 20, seed: Whole = 0) -> Values:
    right = torch.full((REPEATS, epochs), float(accuracy))
    number = torch.full((REPEATS, epochs), float(num_images))
    with seeded(seed):
        test = torch.binomial(number, right) / num_images
        valid = torch.binomial(number, right) / num_images
    chosen = valid.argmax(dim=1, keepdim=True)
    return {
        "accuracy": accuracy,
        "standard_error": (accuracy * (1 - accuracy) / num_images) ** 0.5,
        "best_on_test": test.max(dim=1).values,
        "chosen_on_valid": test.gather(1, chosen).squeeze(1),
    }


def show(values: Values) -> Parts:
    too_much = (values["best_on_test"] > values["accuracy"]).float().mean().item()
    return [
        Table(
            ["", "accuracy"],
            [
                ["true", values["accuracy"]],
                ["one standard error", values["standard_error"]],
                ["reported: best on the test set, on average", values["best_on_test"].mean().item()],
                ["reported: chosen on validation, on average", values["chosen_on_valid"].mean().item()],
            ],
        ),
        f"Choosing on the test set reports too much in {too_much:.0%} of all cases.",
    ]


def draw(values: Values, figure: Figure) -> None:
    axes = figure.subplots()
    for name, label in (
        ("chosen_on_valid", "chosen on validation"),
        ("best_on_test", "best on the test set"),
    ):
        axes.hist(values[name].numpy(), bins=25, alpha=0.6, label=label)
    axes.axvline(values["accuracy"], color="black", linewidth=1)
    axes.set(xlabel="reported test accuracy; line: the true one", yticks=[], ylim=(0, 1.35 * axes.get_ylim()[1]))
    axes.legend(ncols=2)


EXERCISES = [
    Exercise(
        "1,000 test images, an accuracy of 0.9: one standard error?",
        lambda: compute(accuracy=0.9, num_images=1000)["standard_error"],
        "√(0.9·0.1/1000).",
    ),
    Exercise(
        "Four times as many test images: by which factor does the standard error shrink?",
        lambda: compute(num_images=1000)["standard_error"] / compute(num_images=4000)["standard_error"],
        "n stands under a root.",
        slips={4: "n stands under a root."},
    ),
    Exercise(
        "Twenty epochs of the same true accuracy: how many of the twenty tests lie above it, on average?",
        lambda: 20 / 2,
        "A test is as likely to have luck as not.",
    ),
]
