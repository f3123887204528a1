"""Pictures of a run: curves from its metrics.csv, and whatever else is drawn into its plots/.

matplotlib is imported when there is something to draw, and its figures are used without pyplot: no window
system is looked for, and no figure outlives its function.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.atomic import replacing
from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.network import Network
from cnnlab.engine.rate_sweep import Sweep
from cnnlab.errors import StorageError, printable
from cnnlab.runs.directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LETTERS = 60  # of a name
COLUMNS = 8  # of images
LETTERS = 16  # of a title above each column
MAX_PIXELS = 112  # of the side of an image among others
MAX_COUNTED = 30  # classes, of which the cells of a confusion matrix have room for a number


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Replace a PNG by the figure, all or nothing. Raises StorageError."""
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)  # or all would be drawn twice, the first time for the layout alone
    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error})") from error


@cache
def list_shapes() -> frozenset[int]:
    """The characters that the font has a shape for."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def legible(text: object) -> str:
    """A name of any kind as text in a picture: no mathematics, and what the font has no shape for as an escape.

    Long names keep their beginning and their end.
    """
    shapes = list_shapes()
    name = printable(text)
    if len(name) > MAX_LETTERS:
        name = f"{name[: MAX_LETTERS // 2]}…{name[-MAX_LETTERS // 2 :]}"
    shown = "".join(each if ord(each) in shapes else each.encode("unicode_escape").decode() for each in name)
    return shown.replace("$", r"\$")


def draw_curves(run: RunDirectory, best: int | None) -> None:
    """plots/curves.png: loss, score and learning rate by epoch, the `best` epoch marked. Nothing without rows."""
    rows = run.read_metrics()
    if not rows:
        return
    epochs = [row["epoch"] for row in rows]
    figure = new_figure(10, 5)
    titles = [column.removeprefix("train_") for column in rows[0] if column.startswith("train_")]
    grid = figure.subplots(2, len(titles), sharex=True, squeeze=False, height_ratios=(3, 1))
    for (above, below), title in zip(grid.T, titles, strict=True):
        for curve in (f"train_{title}", f"valid_{title}"):
            values = [row[curve] for row in rows]
            if any(value is not None for value in values):
                above.plot(epochs, values, marker="o", markersize=3, label=curve.replace("_", " "))
        below.plot(epochs, [row["lr"] for row in rows], color="grey")
        for axes in (above, below):
            if best is not None:
                axes.axvline(best, color="grey", linewidth=0.8, linestyle="--", label=f"best epoch, {best}")
            axes.grid(alpha=0.3)
        above.set(title=title)
        above.legend(fontsize=8)
        below.set(xlabel="epoch", ylabel="learning rate")
        below.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(legible(run), fontsize=9)
    save_figure(figure, run.curves)


def draw_confusion(run: RunDirectory, part: str, confusion: Tensor, classes: Sequence[str]) -> None:
    """plots/confusion.png: which share of the images of each class was taken for which.

    `confusion` is int64 (classes, classes): a row each class, a column each prediction. Up to MAX_COUNTED classes the
    cells show how many images they are.
    """
    from matplotlib.colors import PowerNorm

    num_classes = len(classes)
    is_counted = num_classes <= MAX_COUNTED
    inches = min(16, 3 + 0.4 * num_classes)
    figure = new_figure(inches, inches)
    axes = figure.subplots()
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    # The root of a share: mistakes are few, and are what one looks for.
    image = axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    names = [legible(name) for name in classes]
    axes.set_xticks(range(num_classes), names, rotation=90, fontsize=8 if is_counted else 4)
    axes.set_yticks(range(num_classes), names, fontsize=8 if is_counted else 4)
    axes.set(xlabel="predicted", ylabel="class")
    if is_counted:
        for row, column in confusion.nonzero().tolist():
            colour = "white" if shares[row, column] > 0.25 else "black"
            axes.text(column, row, f"{confusion[row, column]}", ha="center", va="center", color=colour, fontsize=7)
    else:
        figure.colorbar(image, label="share of the class", shrink=0.5)
    figure.suptitle(f"{legible(run)}: {int(confusion.sum()):,} {part} images", fontsize=9)
    save_figure(figure, run.confusion)


def draw_images(colours: Tensor, captions: Sequence[str], title: str, path: Path) -> None:
    """Images float32 (N, H, W, C) in 0…1 beside each other, a caption of one or two lines under each."""
    if colours.shape[1] > MAX_PIXELS:
        colours = F.interpolate(colours.permute(0, 3, 1, 2), (MAX_PIXELS, MAX_PIXELS), mode="area").permute(0, 2, 3, 1)
    number, height, width, channels = colours.shape
    columns = min(number, COLUMNS)
    rows = -(-number // columns)
    gap_x, gap_y = max(1, width // 10), max(2, 2 * height // 5)  # the captions stand in the gap below
    # One canvas: a system of axes for each image would take most of the time.
    canvas = torch.ones(rows * (height + gap_y), columns * (width + gap_x), channels)
    figure = new_figure(1.2 * columns, 1.2 * rows * (height + gap_y) / (width + gap_x) + 0.4)
    axes = figure.subplots()
    for place, (image, caption) in enumerate(zip(colours, captions, strict=True)):
        top, left = (height + gap_y) * (place // columns), (width + gap_x) * (place % columns)
        canvas[top : top + height, left : left + width] = image
        axes.text(left + width / 2, top + height, caption, ha="center", va="top", fontsize=7)
    axes.imshow(canvas.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    figure.suptitle(textwrap.fill(title, LETTERS * columns), fontsize=9)
    save_figure(figure, path)


def draw_line(run: RunDirectory, network: Network, parts: Mapping[str, BatchSource | None]) -> None:
    """plots/line.png: the points of each part, and what the network predicts from the first to the last of them.

    For one number fitted to one number.
    """
    figure = new_figure(6, 4)
    axes = figure.subplots()
    inputs = []
    for part, batches in parts.items():
        if batches is not None:
            points = [batches.batch(0, number) for number in range(len(batches))]
            x, y = (torch.cat(values).flatten() for values in zip(*points, strict=True))
            axes.plot(x.cpu(), y.cpu(), "o", label=f"{part} points")
            inputs.append(x)
    x = torch.cat(inputs).sort().values
    network.model.eval()
    with torch.inference_mode():
        axes.plot(x.cpu(), network(x.reshape(-1, 1, 1, 1)).flatten().cpu(), label="network")
    axes.set(xlabel="x", ylabel="y")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(legible(run), fontsize=9)
    save_figure(figure, run.line)


def draw_sweep(sweep: Sweep, path: Path) -> None:
    """The loss over the learning rate, and the suggestion, where there is one."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.losses, ".", color="grey", label="mean over the sweeps")
    axes.plot(sweep.rates, sweep.smooth, label="smoothed")
    axes.plot(sweep.rates, sweep.chance, ":", label="outputs given to the wrong images")
    if sweep.suggestion is not None:
        axes.axvline(sweep.suggestion, color="black", linestyle="--", label=f"suggested: {sweep.suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)


def draw_rates(curves: Mapping[str, tuple[list[int], list[float]]], path: Path) -> None:
    """Learning rates over the steps; `curves` has the steps and the rates of each by its name."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for name, (steps, rates) in curves.items():
        axes.plot(steps, rates, label=legible(name))
    axes.set(xlabel="step", ylabel="learning rate")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)
