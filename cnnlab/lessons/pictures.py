"""Pictures: the course's style, a matrix drawn with its numbers, and saving.

matplotlib is loaded when a picture is saved, not before: a lesson's text must not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cnnlab.lessons.view import Figure, Values, cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = object

COLORS = ["#1f4e79", "#c8553d", "#5b8c5a", "#e0a030", "#7a5c8e", "#5f9ea0", "#8c564b", "#7f7f7f"]
STYLE: Any = {
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "axes.prop_cycle": f"cycler('color', {COLORS})",
    "svg.hashsalt": "cnnlab",  # the same picture is the same file
}


LINES = ["-", "--", ":", "-."]  # so that curves which run over one another can be told apart

NARROW = 4.0  # inches: below, panels stand one under the other


def save_picture(draw: Callable[[Values, Figure], None], values: Values, path: Path, width: float = 7.0) -> None:
    """Draw a lesson's values into `path`; its ending (.png, .svg, .pdf) says in which format. `width` in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 3), layout="constrained")
        draw(values, figure)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def panels(figure: Figure, count: int, in_a_row: int = 3, narrow: int = 1, height: float = 2.6) -> list[Axes]:
    """`count` axes, `in_a_row` beside one another, `narrow` where the figure is narrow. `height` in inches."""
    columns = min(count, in_a_row if figure.get_figwidth() > NARROW else narrow)
    rows = -(-count // columns)
    figure.set_figheight(max(height * rows, 2.6))
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for empty in axes[count:]:
        empty.set_axis_off()
    return axes[:count]


def draw_matrix(axes: Axes, matrix: Tensor, title: str) -> None:
    """A matrix as an image, negative red, zero white, positive blue, each cell with its number."""
    largest = max(float(matrix.abs().max()), 1e-9)
    axes.imshow(matrix.detach().numpy(), cmap="RdBu", vmin=-1.6 * largest, vmax=1.6 * largest)
    for i, row in enumerate(cells(matrix)):
        for j, entry in enumerate(row):
            axes.text(j, i, entry, ha="center", va="center", fontsize=8 if len(entry) < 4 else 7)
    axes.set_title(title)
    axes.set_axis_off()


def frame(axes: Axes, row: int, column: int, rows: int = 1, columns: int = 1, color: str = COLORS[1]) -> None:
    """A window's outline on a matrix: where its top left entry lies, and its size."""
    x = [column - 0.5, column + columns - 0.5]
    y = [row - 0.5, row + rows - 0.5]
    axes.plot([x[0], x[1], x[1], x[0], x[0]], [y[0], y[0], y[1], y[1], y[0]], color=color, linewidth=2.2, clip_on=False)


def draw_sliding(
    figure: Figure, image: Tensor, kernel_size: tuple[int, int], output: Tensor, stride: int = 1, shown: int = 3
) -> None:
    """The window's first positions on the image, and below each what has been written down by then."""
    positions = [(i, j) for i in range(output.shape[0]) for j in range(output.shape[1])][:shown]
    wide = figure.get_figwidth() > NARROW
    figure.set_figheight(4.2 if wide else 2.2 * len(positions))
    axes = figure.subplots(*((2, len(positions)) if wide else (len(positions), 2)), squeeze=False)
    for step, (i, j) in enumerate(positions):
        above, below = (axes[0][step], axes[1][step]) if wide else axes[step]
        draw_matrix(above, image, f"window {step + 1}")
        frame(above, i * stride, j * stride, *kernel_size)
        written = output.detach().clone().float()
        written.view(-1)[i * output.shape[1] + j + 1 :] = float("nan")
        draw_written(below, written)
        frame(below, i, j)


def draw_written(axes: Axes, matrix: Tensor) -> None:
    """A matrix of which some entries, nan, are not written yet."""
    known = matrix.nan_to_num(0.0)
    draw_matrix(axes, known, "output so far")
    for text, entry in zip(axes.texts, matrix.flatten().tolist(), strict=True):
        text.set_visible(entry == entry)
    rows, columns = matrix.shape
    for i in range(rows):
        for j in range(columns):
            frame(axes, i, j, color="#dddddd")


def highlight_each(figure: Figure, curves: dict[str, Any], in_a_row: int = 5, **settings: Any) -> None:
    """One small panel for each curve, in colour before all the others in grey: so none hides behind another."""
    axes_of_each = panels(figure, len(curves), in_a_row, narrow=2, height=1.7)
    for axes, (name, (x, y)) in zip(axes_of_each, curves.items(), strict=True):
        for other_x, other_y in curves.values():
            axes.plot(other_x, other_y, color="#dddddd", linewidth=0.8)
        axes.plot(x, y, color=COLORS[0], linewidth=1.8)
        axes.set(title=name, **settings)


def draw_epochs(axes: Axes, curves: dict[str, list[float]], published: dict[str, list[float]], label: str) -> None:
    """Measured curves as lines, published ones as squares, by epoch."""
    for style, (name, values) in zip(LINES, curves.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, style, linewidth=1.3, label=name)
    for name, values in published.items():
        axes.plot(range(1, len(values) + 1), values, "s", markersize=4, color="black", label=name)
    axes.set(xlabel="epoch", ylabel=label)
    axes.legend(fontsize=7)
