"""A label as an index, or one-hot: two ways to write the same truth.

Stands on: cross_entropy.

"Dog", as one of cat and dog, can be written as the index 1, or as the row (0, 1): zeros with a single one,
*one-hot*. The cross-entropy of probabilities p with a row t is

    $L = −Σ t[k] · log p[k]$

and with a one-hot t only the term of the true class is left, $−log p[y]$, which is the loss of an index.
`F.cross_entropy` takes both: whole numbers of shape (N,) as indices, decimal numbers of shape (N, K) as rows.

Question: The notes explain one-hot labels and then use 0 for cats and 1 for dogs. Which is right?
Answer: Both, and the index is the better choice: one number in place of K, and no row that could sum to
something else. Rows are needed where the truth is not certain: a label that is smoothed to (0.05, 0.95), or
an image mixed of 70 % cat and 30 % dog (`augment=mixup`).

Question: I made one-hot labels and torch complains.
Answer: A one-hot row of whole numbers is neither of the two: `F.one_hot` gives whole numbers, so call
`.float()` on them. And labels of shape (N, 1) are not indices; `squeeze(1)` makes them (N,).

On real data: cats and dogs by index. Mixed labels are rows.

    cnnlab train dataset=digits augment=[shift,mixup]
    cnnlab train dataset=digits loss.label_smoothing=0.1
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.seeded import seeded
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Fraction, Whole


def compute(*, smoothing: Fraction = 0.1, seed: Whole = 0) -> Values:
    labels = torch.tensor([0, 1, 1])  # cat, dog, dog
    with seeded(seed):
        logits = torch.randn(3, 2)
    rows = F.one_hot(labels, num_classes=2)  # (3, 2), whole numbers
    smoothed = rows * (1 - smoothing) + smoothing / 2
    try:
        F.cross_entropy(logits, rows)
        refusal = "nothing"
    except RuntimeError as error:
        refusal = str(error).partition("\n")[0]
    return {
        "labels": labels,
        "rows": rows,
        "smoothed": smoothed,
        "by_index": F.cross_entropy(logits, labels).item(),
        "by_row": F.cross_entropy(logits, rows.float()).item(),
        "by_hand": -(rows * logits.log_softmax(dim=1)).sum(dim=1).mean().item(),
        "by_smoothed": F.cross_entropy(logits, smoothed).item(),
        "smoothing_of_torch": F.cross_entropy(logits, labels, label_smoothing=smoothing).item(),
        "refusal": refusal,
    }


def show(values: Values) -> Parts:
    return [
        {"index": values["labels"][:, None], "one-hot": values["rows"], "smoothed": values["smoothed"]},
        Table(
            ["labels given as", "loss"],
            [
                ["indices", values["by_index"]],
                ["one-hot rows", values["by_row"]],
                ["one-hot rows, by the formula", values["by_hand"]],
                ["smoothed rows", values["by_smoothed"]],
                ["indices, with torch's label_smoothing", values["smoothing_of_torch"]],
            ],
        ),
        f"One-hot rows of whole numbers: {values['refusal']}",
    ]


EXERCISES = [
    Exercise(
        "Class 2 of 4, counted from 0: the one-hot row?",
        lambda: tuple(F.one_hot(torch.tensor(2), 4).tolist()),
        "A single one, at index 2; the first index is 0.",
        slips={(0, 1, 0, 0): "Indices count from 0."},
    ),
    Exercise(
        "10,000 labels of 120 breeds: how many times as many numbers are one-hot rows as indices?",
        lambda: F.one_hot(torch.arange(120), 120).numel() / torch.arange(120).numel(),
        "A row of K for each label.",
    ),
    Exercise(
        "Smoothing 0.1 with 10 classes: what does the true class's entry become?",
        lambda: 1 * (1 - 0.1) + 0.1 / 10,
        "0.9 of the one, and a tenth part of 0.1 for every class, the true one too.",
        slips={0.9: "The true class gets its share of the 0.1 as well."},
    ),
]
