"""The confusion matrix of a run's page, and the pictures that its cells open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnnlab.errors import printable
from cnnlab.reports.evidence import Evaluation, order_by
from cnnlab.reports.page import Plot, encode, plain
from cnnlab.tasks import Classification

MAX_PICTURES, MAX_BYTES = 1200, 3_000_000  # of all cells
MAX_IN_CELL = 24
MAX_CONFUSED = 20  # pairs of classes that have a button
MAX_SHOWN = 24  # mistakes, and doubtful hits
TICK_LETTERS = 18


def show_classes(evaluation: Evaluation, task: Classification, classes: list[str]) -> tuple[dict[str, Any], list[Plot]]:
    """The confusion matrix with the pictures of its cells, mistakes, doubtful hits."""
    labels, predicted = evaluation.labels, task.predict(evaluation.outputs)
    certainty = task.to_scores(evaluation.outputs).amax(1)
    confusion = task.count_confusion(evaluation.outputs, labels)
    wrong = predicted != labels
    mistakes = order_by(certainty, wrong, descending=True)
    doubtful = order_by(certainty, ~wrong, descending=False)

    def picture(position: int) -> tuple[str, str, str]:
        taken, label = classes[int(predicted[position])], classes[int(labels[position])]
        share = f"{float(certainty[position]):.1%}"
        told = f"{label}, {share}" if taken == label else f"{label} → {taken}, {share}"
        (pixels,), (name,) = evaluation.batches.pixels(torch.tensor([position])), evaluation.batches.names([position])
        return encode(pixels.cpu().numpy()), told, printable(name)

    off = confusion.clone().fill_diagonal_(0)
    pairs = off.flatten().argsort(descending=True, stable=True)[:MAX_CONFUSED].tolist()
    confused = [(p // len(classes), p % len(classes), int(off.flatten()[p])) for p in pairs if off.flatten()[p]]
    cells: dict[tuple[int, int], list[tuple[str, str, str]]] = {}
    left = MAX_BYTES
    for cell, position in share_out(labels, predicted, torch.cat([mistakes, doubtful])):
        told = cells.setdefault(cell, [])
        if left > 0:
            told.append(picture(position))
            left -= len(told[-1][0])
    seen = {
        "classes": classes,
        "confused": confused,
        "cells": {
            f"{row},{column}": {"images": int(confusion[row, column]), "pictures": pictures}
            for (row, column), pictures in cells.items()
        },
        "mistakes": [picture(p) for p in mistakes[:MAX_SHOWN].tolist()],
        "num_mistakes": len(mistakes),
        "doubtful": [picture(p) for p in doubtful[:MAX_SHOWN].tolist()],
    }
    return seen, [plot_confusion(confusion, classes, evaluation.part)]


def share_out(labels: Tensor, predicted: Tensor, order: Tensor) -> list[tuple[tuple[int, int], int]]:
    """Cells, and positions of their pictures in this order: one for each cell, then a second, as far as there is room.

    No cell is left out, as long as there is room for one picture each.
    """
    cells: dict[tuple[int, int], list[int]] = {}
    for position in order.tolist():
        cells.setdefault((int(labels[position]), int(predicted[position])), []).append(position)
    ranked = [
        (rank, cell, position)
        for cell, positions in cells.items()
        for rank, position in enumerate(positions[:MAX_IN_CELL])
    ]
    ranked.sort(key=lambda each: each[0])
    return [(cell, position) for _, cell, position in ranked[: max(MAX_PICTURES, len(cells))]]


def plot_confusion(confusion: Tensor, classes: Sequence[str], part: str) -> Plot:
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    names = [plain(name) for name in classes]
    ticks = {"tickvals": list(range(len(classes))), "ticktext": [plain(name, TICK_LETTERS) for name in classes]}
    is_small = len(classes) <= 20
    trace: dict[str, Any] = {
        # The root of a share: mistakes are few, and are what one looks for.
        "type": "heatmap", "z": shares.sqrt().round(decimals=4).tolist(), "zmin": 0, "zmax": 1,
        "colorscale": "Cividis", "showscale": False, "xgap": int(is_small), "ygap": int(is_small),
        "text": confusion.tolist(), "hovertemplate": "%{y} taken for %{x}: %{text} images<extra></extra>",
    }  # fmt: skip
    if is_small:
        trace["texttemplate"] = "%{text}"
    if len(names) <= 40:  # a text for each of more cells would be most of the page
        trace["hovertemplate"] = "%{hovertext}<extra></extra>"
        trace["hovertext"] = [
            [
                f"{name} taken for {other}: {confusion[i, j]:,} images, {shares[i, j]:.1%}"
                for j, other in enumerate(names)
            ]
            for i, name in enumerate(names)
        ]
    font = {"tickfont": {"size": 11 if is_small else 8}}
    layout = {
        "height": max(380, 14 * len(classes) + 160),
        "xaxis": {"title": {"text": "predicted", "standoff": 12}, "tickangle": -90, **ticks, **font},
        "yaxis": {"title": {"text": "class", "standoff": 12}, "autorange": "reversed", **ticks, **font},
    }
    return Plot("confusion", f"Confusion matrix of {int(confusion.sum()):,} {part} images", [trace], layout)
