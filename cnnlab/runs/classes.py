"""Class by class, or label by label: precision, recall and F1, as a table and as classes.csv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cnnlab.errors import printable
from cnnlab.metrics import f1
from cnnlab.runs.cells import guard

MEAN = "mean of classes"


class ClassScore(NamedTuple):
    """How well a class is recognised. What nothing is known of counts 0: the precision of a class never predicted."""

    name: str
    images: int  # of the class
    precision: float  # share of the predictions of this class that are right
    recall: float  # share of the images of this class that are recognised
    f1: float  # 2 · precision · recall / (precision + recall)


def score_classes(hits: Tensor, classes: Sequence[str]) -> list[ClassScore]:
    """A score for each class, of how many images it was rightly and wrongly told of and missed: int64 (3, classes)."""
    right, wrong, missed = hits.double()
    precision = right / (right + wrong).clamp(min=1)
    recall = right / (right + missed).clamp(min=1)
    columns = (hits[0] + hits[2], precision, recall, f1(right, wrong, missed))
    return [ClassScore(*row) for row in zip(classes, *(column.tolist() for column in columns), strict=True)]


def average(scores: Sequence[ClassScore]) -> ClassScore:
    """The means over classes, each counting as much ("macro")."""
    table = torch.tensor([score[2:] for score in scores], dtype=torch.float64)
    return ClassScore(MEAN, sum(score.images for score in scores), *table.mean(0).tolist())


def write_table(scores: Sequence[ClassScore]) -> str:
    """For people: a line a class, and the means below."""
    rows = [score._replace(name=printable(score.name)) for score in [*scores, average(scores)]]
    width = max(len(row.name) for row in rows)
    lines = [f"{'class':{width}}  {'images':>7}  {'precision':>9}  {'recall':>7}  {'f1':>7}"]
    for row in rows:
        shares = f"{row.precision:9.4f}  {row.recall:7.4f}  {row.f1:7.4f}"
        lines.append(f"{row.name:{width}}  {row.images:7,}  {shares}")
    return "\n".join(lines)


def list_scores(scores: Sequence[ClassScore]) -> list[Sequence[Any]]:
    """The rows of classes.csv: a header, and one for each class."""
    return [("class", *ClassScore._fields[1:]), *(score._replace(name=guard(score.name)) for score in scores)]
