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


def save_picture(draw: Callable[[Values, Figure], None], values: Values, path: Path) -> None:
    """Draw a lesson's values into `path`; its ending (.png, .svg, .pdf) says in which format."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 3), layout="constrained")
        draw(values, figure)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_matrix(axes: Axes, matrix: Tensor, title: str) -> None:
    """A matrix as an image, negative red, zero white, positive blue, each cell with its number."""
    largest = max(float(matrix.abs().max()), 1e-9)
    axes.imshow(matrix.detach().numpy(), cmap="RdBu", vmin=-1.6 * largest, vmax=1.6 * largest)
    for i, row in enumerate(cells(matrix)):
        for j, entry in enumerate(row):
            axes.text(j, i, entry, ha="center", va="center", fontsize=8)
    axes.set_title(title)
    axes.set_axis_off()
