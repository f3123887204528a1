"""One self-contained HTML file: templates filled in, style, script and plotting library inside, nothing loaded.

Text comes from run directories, which may come from a stranger: Jinja escapes it, what would steer a terminal or is
invisible becomes an escape, and the page's policy lets it load nothing and talk to nobody.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cnnlab.errors import ConfigError, printable
from cnnlab.runs.directory import RunDirectory

HERE = Path(__file__).parent
# Okabe and Ito's colours, told apart by the colour-blind.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
QUALITY = 80  # of small pictures


class Table(NamedTuple):
    """Headings and rows; a number in a cell is shown to four places and sorted as a number."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Plot(NamedTuple):
    """What plotly draws: traces and layout, as plain containers."""

    name: str  # of its place on the page
    title: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]


def render(template: str, plots: Sequence[Plot], data: Mapping[str, Any], **values: Any) -> str:
    """A page; `data` is what its script looks at beside the plots. Raises ConfigError without plotly."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=make_visible,
    )
    environment.filters["cell"] = show
    drawn = {plot.name: {"traces": plot.traces, "layout": plot.layout} for plot in plots}
    return environment.get_template(template).render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        library=Markup(load_library() if plots else ""),
        plots={plot.name: plot for plot in plots},
        data=as_json({"plots": drawn, **data}),
        **values,
    )


def as_json(value: Any) -> Any:
    """Plain containers as a browser reads them: JSON has null for what is no finite number."""
    if isinstance(value, Mapping):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_library() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError('report: needs the package plotly; expected: pip install "cnnlab[report]"') from None
    return get_plotlyjs()


def write_page(path: Path, text: str) -> None:
    """Replace a file by the page, all or nothing. Raises StorageError."""
    RunDirectory(path.parent).write_text(path, text)


# --- Text ---------------------------------------------------------------------------------------------


def make_visible(value: Any) -> Any:
    """What a template shows of a value: text without anything that steers a terminal or hides."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def show(value: Any) -> str:
    """A cell's text: four places for a fraction, one from 100 up, commas, a dash for what is not known."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer() and abs(value) > 1:
            return f"{value:,.0f}"
        places = 4 if abs(value) < 100 else 1
        return f"{value:,.{places}f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"
    return str(value)


def plain(name: str, letters: int = 60) -> str:
    """A name for plotly, which would take tags in it for markup."""
    name = printable(name)
    return html.escape(name if len(name) <= letters else f"{name[: letters - 1]}…")


# --- Pictures -----------------------------------------------------------------------------------------


def encode(pixels: np.ndarray, side: int = 64) -> str:
    """A uint8 picture (H, W, C) as a data URI, no larger than `side`: small ones without loss, others as WebP."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    is_small = max(picture.size) <= 32
    if max(picture.size) > side:
        picture = picture.resize((side, side), Image.Resampling.BOX)
    file = io.BytesIO()
    if is_small and pixels.shape[2] == 1:
        picture.save(file, "png", optimize=True)
        return to_uri(file.getvalue(), "png")
    picture.save(file, "webp", quality=QUALITY)
    return to_uri(file.getvalue(), "webp")


def to_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (N, H, W, C) beside each other with a gap of a pixel: (rows · (H + 1), columns · (W + 1), C)."""
    number, height, width, channels = images.shape
    rows = -(-number // columns)
    canvas = np.full((rows * (height + 1), columns * (width + 1), channels), 128, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    return canvas


def encode_exactly(pixels: np.ndarray) -> str:
    """A uint8 picture (H, W, C) as a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "png", optimize=True)
    return to_uri(file.getvalue(), "png")
