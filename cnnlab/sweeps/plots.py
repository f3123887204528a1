"""Pictures of a sweep: the history of the best, the score by each axis, and all axes at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnlab.errors import CnnlabError
from cnnlab.metrics import is_higher_better
from cnnlab.sweeps.directory import Outcome, SweepDirectory, Trial
from cnnlab.sweeps.space import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Scored:
    """A trial that has a score, and its value on each axis as a number: of a choice its index."""

    number: int
    score: float
    positions: list[float]


def draw_answers(
    sweep: SweepDirectory, trials: Sequence[Trial], outcomes: Mapping[int, Outcome], metric: str, axes: Sequence[Axis]
) -> None:
    """plots/history.png, axes.png and, of several axes, parallel.png; a picture is no reason to fail."""
    scored = [
        Scored(trial.number, outcome.score, [find_position(trial, axis) for axis in axes])
        for trial in trials
        if (outcome := outcomes[trial.number]).score is not None
    ]
    if len(scored) < 2:
        return
    try:
        sweep.plots.mkdir(exist_ok=True)
        draw_history(scored, metric).savefig(sweep.plots / "history.png")
        if axes:
            draw_axes(scored, metric, axes).savefig(sweep.plots / "axes.png")
        if len(axes) > 1:
            draw_parallel(scored, metric, axes).savefig(sweep.plots / "parallel.png")
    except (OSError, CnnlabError) as error:
        print(f"{sweep.plots}: cannot be written ({error})", file=sys.stderr)


def find_position(trial: Trial, axis: Axis) -> float:
    value = dict(text.split("=", 1) for text in trial.values)[axis.key]
    return float(value) if axis.is_continuous else axis.choices.index(value)


def begin_figure(width: float, height: float) -> Figure:
    """One that needs no display and leaves pyplot's state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_history(scored: Sequence[Scored], metric: str) -> Figure:
    figure = begin_figure(6, 4)
    part: Axes = figure.subplots()
    pick = max if is_higher_better(metric) else min
    scores = [trial.score for trial in scored]
    numbers = [trial.number for trial in scored]
    part.scatter(numbers, scores, s=14)
    part.step(numbers, [pick(scores[: index + 1]) for index in range(len(scores))], where="post", label="best so far")
    part.set(xlabel="trial", ylabel=metric)
    part.legend()
    return figure


def draw_axes(scored: Sequence[Scored], metric: str, axes: Sequence[Axis]) -> Figure:
    """The score by each axis, whatever the others are."""
    figure = begin_figure(3.2 * len(axes), 3.4)
    parts = figure.subplots(1, len(axes), squeeze=False)[0]
    for index, (axis, part) in enumerate(zip(axes, parts, strict=True)):
        part.scatter([trial.positions[index] for trial in scored], [trial.score for trial in scored], s=14)
        part.set(xlabel=axis.key, ylabel=metric)
        if axis.log:
            part.set_xscale("log")
        if not axis.is_continuous:
            part.set_xticks(range(len(axis.choices)), axis.choices)
    return figure


def draw_parallel(scored: Sequence[Scored], metric: str, axes: Sequence[Axis]) -> Figure:
    """Parallel coordinates: a line for each trial through its values, coloured by its score, the best on top.

    Each axis has a scale of its own, by a twin of the first.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = begin_figure(2.2 * (len(axes) + 1), 4)
    host: Axes = figure.subplots()
    twins = [host, *(host.twinx() for _ in axes[1:])]
    for index, (axis, twin) in enumerate(zip(axes, twins, strict=True)):
        low, high = (axis.low, axis.high) if axis.is_continuous else (0, max(1, len(axis.choices) - 1))
        if axis.log:
            twin.set_yscale("log")
        twin.set_ylim(low, high)
        if not axis.is_continuous:
            twin.set_yticks(range(len(axis.choices)), axis.choices)
        if index:
            twin.spines["right"].set_position(("axes", index / (len(axes) - 1)))
    host.set_xlim(0, len(axes) - 1)
    host.set_xticks(range(len(axes)), [axis.key for axis in axes])
    scores = [trial.score for trial in scored]
    palette = colormaps["viridis" if is_higher_better(metric) else "viridis_r"]
    shade = Normalize(min(scores), max(scores))
    for trial in sorted(scored, key=lambda each: each.score, reverse=not is_higher_better(metric)):
        heights = [
            # of the axis, between 0 and 1, as its own scale has it
            twin.transAxes.inverted().transform(twin.transData.transform((0, position)))[1]
            for twin, position in zip(twins, trial.positions, strict=True)
        ]
        host.plot(
            range(len(axes)),
            heights,
            transform=host.get_xaxis_transform(),
            color=palette(float(shade(trial.score))),
            alpha=0.8,
            clip_on=False,
        )
    figure.colorbar(ScalarMappable(shade, palette), ax=twins, label=metric, pad=0.12)
    return figure
