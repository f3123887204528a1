"""The same code, two results: what a seed does not fix.

Stands on: best_epoch.

The notes run one program in two projects, and it counts and labels differently. Where can a difference come
from, if not from the code?

    the files       `os.listdir` gives names in no order, and all of them: Thumbs.db, too
    the shuffle     a seed fixes how a list is shuffled, not in which order the list was before
    the rounding    decimal sums depend on their order: 64-bit sums in the 16th digit, 32-bit ones in the 7th
    the versions    another torch, another CPU, another number of threads: another order of sums

The first two make different data, and a difference that anybody notices. Sort the names before you shuffle
them, and take only what you know: the program's `else` calls every file a dog whose name does not begin with
cat. The last two make small differences, which a training run makes large.

Question: The notes set `random.seed(0)`, `torch.manual_seed(0)` and `torch.cuda.manual_seed(0)`. Is that enough?
Answer: Not for their split: they shuffle `os.listdir(...)`, whose order depends on the disk. In the table the
same seed shuffles the same ten names, listed in two orders, and other images become validation images.

Question: How much may two runs differ?
Answer: With the same files, seed, versions, device and threads: not at all, if every source of chance is a
function of the seed. `cnnlab reproduce RUN` runs it again and compares number by number. Between machines expect
the scatter of another seed, and report several.

On real data: two runs of one seed are the same to the last digit; three seeds show the scatter.

    cnnlab train dataset=digits seed=0
    cnnlab train -m dataset=digits seed=0,1,2
"""

from __future__ import annotations

import random

from cnnlab.lessons.exercises import Exercise
from cnnlab.lessons.view import Parts, Table, Values
from cnnlab.signature import Whole


def split(names: list[str], seed: int) -> list[str]:
    """The validation part: the first three of the shuffled names."""
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled[:3])


def label(name: str) -> int:
    """As the notes do it: cat 0, and everything else 1."""
    return 0 if name.split(sep=".")[0] == "cat" else 1


def add(numbers: list[float]) -> float:
    """One after the other, as they come."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def compute(*, seed: Whole = 0) -> Values:
    names = [f"{animal}.{number}.jpg" for animal in ("cat", "dog") for number in range(5)]
    other_disk = names[::-1]
    folder = [*names, "Thumbs.db", ".DS_Store"]
    terms = [1 / n for n in range(1, 100_001)]
    return {
        "here": split(names, seed),
        "there": split(other_disk, seed),
        "sorted here": split(sorted(names), seed),
        "sorted there": split(sorted(other_disk), seed),
        "dogs": sum(label(name) for name in folder),
        "forward": add(terms),
        "backward": add(terms[::-1]),
        "small": (0.1 + 0.2) + 0.3 == 0.1 + (0.2 + 0.3),
    }


def show(values: Values) -> Parts:
    rows = [[where, ", ".join(values[where])] for where in ("here", "there", "sorted here", "sorted there")]
    difference = abs(values["forward"] - values["backward"])
    return [
        Table(["names listed", "validation images, the same seed"], rows),
        f"In a folder of five cats, five dogs and two files of the operating system the notes' loop counts "
        f"{values['dogs']} dogs.",
        f"1 + 1/2 + … + 1/100,000, added forwards and backwards, differs by {difference:.1e}; "
        f"(0.1 + 0.2) + 0.3 == 0.1 + (0.2 + 0.3) is {values['small']}.",
    ]


EXERCISES = [
    Exercise(
        "A folder holds 12 cats, 12 dogs and README.txt. How many dogs does the notes' loop count?",
        lambda: sum(label(name) for name in ["cat.1.jpg"] * 12 + ["dog.1.jpg"] * 12 + ["README.txt"]),
        "What does its else do with README.txt?",
    ),
    Exercise(
        "So that a seed fixes the split, names have to be ... before they are shuffled. Which word is missing?",
        lambda: "sorted",
        "Give them an order that does not depend on the disk.",
    ),
    Exercise(
        "Is (0.1 + 0.2) + 0.3 == 0.1 + (0.2 + 0.3) in Python? (yes or no)",
        lambda: "yes" if compute()["small"] else "no",
        "Run it.",
    ),
]
