"""Pictures of a run: curves from its metrics.csv, and whatever else is drawn into its plots/.

matplotlib is imported when there is something to draw, and its figures are used without pyplot: no window
system is looked for, and no figure outlives its function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.network import Network
from cnnlab.engine.rate_sweep import Sweep
from cnnlab.errors import StorageError, printable
from cnnlab.runs.directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LETTERS = 60  # of a name
MAX_COUNTED = 30  # classes, of which the cells of a confusion matrix have room for a number


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Replace a PNG by the figure, all or nothing. Raises StorageError."""
    partial = path.with_name(f".{path.stem}.partial.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(partial, dpi=120)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error})") from error


def legible(text: object) -> str:
    """A name of any kind as text in a picture: no mathematics, and what the font has no shape for as an escape.

    Long names keep their beginning and their end.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    shapes = get_font(findfont(FontProperties())).get_charmap()
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
    figure = new_figure(12, 3.6)
    titles = [column.removeprefix("train_") for column in rows[0] if column.startswith("train_")] + ["lr"]
    for axes, title in zip(figure.subplots(1, len(titles)), titles, strict=True):
        curves = ["lr"] if title == "lr" else [f"train_{title}", f"valid_{title}"]
        for curve in curves:
            values = [row[curve] for row in rows]
            if any(value is not None for value in values):
                axes.plot(epochs, values, marker="o", markersize=3, label=curve.replace("_", " "))
        if best is not None and title != "lr":
            axes.axvline(best, color="grey", linewidth=0.8, linestyle="--", label="best epoch")
        axes.set(title="learning rate" if title == "lr" else title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if title != "lr":
            axes.legend(fontsize=8)
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
    """The loss over the learning rate, and the suggestion."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.losses, ".", color="grey", label="each step")
    axes.plot(sweep.rates, sweep.smooth, label="smoothed")
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
