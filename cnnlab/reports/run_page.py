"""The page of one run. Every number comes from the run directory, or is computed anew by its network."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlab.config import flatten
from cnnlab.errors import printable
from cnnlab.reports.evidence import Evidence, Looked, look, order_by, read_evidence
from cnnlab.reports.page import (
    BLUE,
    GREEN,
    ORANGE,
    QUALITY,
    Plot,
    Table,
    encode,
    encode_exactly,
    plain,
    render,
    tile,
    to_uri,
)
from cnnlab.runs.calibration import fit_temperature, measure_calibration
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.features import compute_gradcam, feature_maps, find_spatial_layer, spread
from cnnlab.runs.pictures import look_at
from cnnlab.tasks import Classification

MAX_PICTURES, MAX_BYTES = 1200, 3_000_000  # behind the cells of the confusion matrix
MAX_IN_CELL = 24
MAX_CONFUSED = 20  # pairs of classes that have a button
MAX_SHOWN = 24  # mistakes, and doubtful hits
MAX_LOOKED_AT = 6  # pictures with an activation map
MAX_LAYERS, MAX_MAPS = 4, 16
TICK_LETTERS = 18


def write_run_page(run: RunDirectory, overrides: Sequence[str] = ()) -> str:
    """The page of a run. Raises ConfigError without plotly."""
    found = read_evidence(run)
    look(found, overrides)
    plots: list[Plot] = found.attempt("curves", lambda: plot_curves(found), [])
    curves = [plot.name for plot in plots]
    seen: dict[str, Any] = {
        "cells": {},
        "classes": [],
        "confused": [],
        "mistakes": [],
        "num_mistakes": 0,
        "doubtful": [],
    }
    learned: dict[str, Any] = {"kernels": None, "looked_at": [], "feature_maps": []}
    calibration: tuple[Table, str, list[Plot]] | None = None
    if found.looked is not None and found.trained is not None:
        looked, trained = found.looked, found.trained
        task = trained.facts.task
        if isinstance(task, Classification):
            classes = [printable(name) for name in trained.facts.classes]
            told = found.attempt("confusion matrix", lambda: show_classes(looked, task, classes), None)
            if told is not None:
                seen |= told[0]
                plots += told[1]
            calibration = found.attempt("calibration", lambda: show_calibration(found, looked, task), None)
            if calibration is not None:
                plots += calibration[2]
        else:
            plots += found.attempt("predictions", lambda: [plot_numbers(looked, trained.facts.classes)], [])
        learned = found.attempt("feature maps", lambda: show_network(found, looked), learned)
    images: list[tuple[str, str]] = found.attempt("pictures of the run", lambda: read_drawn(found), [])
    sections = [
        ("curves", "Curves", bool(curves)),
        ("classes", "Classes", bool(found.classes or seen["cells"])),
        ("pictures", "Pictures", bool(seen["mistakes"] or seen["doubtful"])),
        ("calibration", "Calibration", calibration is not None),
        ("network", "Network", bool(learned["kernels"] or learned["looked_at"])),
        ("time", "Time and memory", True),
        ("configuration", "Configuration", True),
        ("environment", "Environment", True),
        ("commands", "Commands", True),
    ]
    return render(
        "run.html",
        plots,
        {"cells": seen["cells"], "classes": seen["classes"]},
        title=name_run(run),
        subtitle=describe(found),
        sections=[(anchor, heading) for anchor, heading, is_there in sections if is_there],
        facts=list_facts(found),
        curves=curves,
        part_name=found.looked.part if found.looked else "evaluated",
        classes=found.attempt("classes", lambda: tabulate_classes(found.classes), None),
        class_names=seen["classes"],
        confused=seen["confused"],
        mistakes=seen["mistakes"],
        num_mistakes=seen["num_mistakes"],
        doubtful=seen["doubtful"],
        calibration=calibration and calibration[0],
        calibration_note=calibration and calibration[1],
        **learned,
        images=images,
        costs=found.attempt("time and memory", lambda: tabulate_costs(found), Table(("what", "value"), [])),
        typed=shlex.join(run.read_overrides()),
        changed=found.attempt("defaults", lambda: compare_with_defaults(found.config), None),
        configuration=Table(("key", "value"), list(flatten(found.config).items())),
        environment=Table(("what", "value"), list(flatten(found.environment).items())),
        commands=list_commands(found),
        missing=found.missing,
    )


def name_run(run: RunDirectory) -> str:
    return "/".join(run.path.resolve().parts[-2:])


def describe(found: Evidence) -> str:
    parts = [str(found.summary.get("status", "of unknown status"))]
    for group in ("model", "dataset", "optimizer"):
        chosen = found.config.get(group)
        if isinstance(chosen, dict) and "name" in chosen:
            parts.append(f"{group} {chosen['name']}")
    parts += [str(tag) for tag in found.config.get("tags") or ()]
    if found.config.get("note"):
        parts.append(str(found.config["note"]))
    if found.summary.get("reason"):
        parts.append(str(found.summary["reason"]))
    return " · ".join(parts)


def list_facts(found: Evidence) -> list[tuple[str, Any]]:
    """The numbers that one looks for first, as summary.json has them."""
    facts: list[tuple[str, Any]] = []
    best, test, totals = (found.summary.get(key, {}) for key in ("best", "test", "totals"))
    if best:
        facts.append(("best epoch", best.get("epoch")))
        facts += [(column.replace("_", " "), best[column]) for column in best if column.startswith("valid_")]
    facts += [(f"test {name.replace('_', ' ')}", value) for name, value in test.items()]
    facts += [(name, found.summary[name]) for name in ("parameters",) if name in found.summary]
    facts += [(name, f"{totals[name]:,.4g}") for name in ("epochs", "seconds") if name in totals]
    return facts


def list_commands(found: Evidence) -> list[tuple[str, str]]:
    path = shlex.quote(printable(found.run))
    commands = [
        ("Resume, or go on for longer", f"cnnlab resume {path}"),
        ("Evaluate", f"cnnlab evaluate {path}"),
        ("Predict pictures of your own", f"cnnlab predict {path} --images FOLDER_OR_FILE"),
        ("Reproduce", f"cnnlab reproduce {path}"),
    ]
    typed = shlex.join(found.run.read_overrides())
    return [*commands, ("Train the same anew", f"cnnlab train {printable(typed)}".strip())]


# --- Curves -------------------------------------------------------------------------------------------


def plot_curves(found: Evidence) -> list[Plot]:
    """Loss, score and rate by epoch, the best epoch marked. metrics.csv has nothing of the test images."""
    rows = found.rows
    if not rows:
        return []
    best = found.summary.get("best", {}).get("epoch")
    epochs = [row["epoch"] for row in rows]
    titles = [column.removeprefix("train_") for column in rows[0] if column.startswith("train_")]
    wanted = {title: [f"train_{title}", f"valid_{title}"] for title in titles}
    if "valid_log_loss" in rows[0] and "loss" in wanted:
        wanted["loss"].append("valid_log_loss")
    wanted["lr"] = ["lr"]
    plots = []
    for title, columns in wanted.items():
        traces = [
            {
                "x": epochs,
                "y": [row.get(column) for row in rows],
                "name": column.replace("_", " "),
                "mode": "lines+markers",
                "marker": {"size": 5, "symbol": symbol},
                "line": {"color": colour, "dash": dash},
            }
            for column, colour, symbol, dash in zip(
                columns, (BLUE, ORANGE, GREEN), ("circle", "square", "diamond"), ("solid", "dash", "dot"), strict=False
            )
            if any(row.get(column) is not None for row in rows)
        ]
        layout: dict[str, Any] = {
            "xaxis": {"title": {"text": "epoch"}},
            "yaxis": {"rangemode": "tozero" if title == "lr" else "normal"},
            "hovermode": "x unified",
            "showlegend": title != "lr",
        }
        if best is not None:
            layout["shapes"] = [{"type": "line", "x0": best, "x1": best, "y0": 0, "y1": 1, "yref": "paper"}]
            layout["annotations"] = [
                {
                    "x": best,
                    "y": 0,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "xanchor": "right",
                    "showarrow": False,
                    "text": f"best epoch {best}",
                }
            ]
        name = "learning rate" if title == "lr" else title
        plots.append(Plot(f"curve_{title}", name, traces, layout))
    return plots


# --- Classes ------------------------------------------------------------------------------------------


def tabulate_classes(rows: Sequence[Sequence[str]]) -> Table | None:
    """classes.csv as it stands."""
    if len(rows) < 2:
        return None
    header, *body = rows
    return Table(header, [[name, int(images), *map(float, shares)] for name, images, *shares in body])


def show_classes(looked: Looked, task: Classification, classes: list[str]) -> tuple[dict[str, Any], list[Plot]]:
    """The confusion matrix with pictures behind its cells, mistakes, doubtful hits."""
    labels, predicted = looked.labels, task.predict(looked.outputs)
    certainty = task.to_scores(looked.outputs).amax(1)
    confusion = task.count_confusion(looked.outputs, labels)
    wrong = predicted != labels
    mistakes = order_by(certainty, wrong, descending=True)
    doubtful = order_by(certainty, ~wrong, descending=False)

    def picture(position: int) -> tuple[str, str, str]:
        taken, label = classes[int(predicted[position])], classes[int(labels[position])]
        share = f"{float(certainty[position]):.1%}"
        told = f"{label}, {share}" if taken == label else f"{label} → {taken}, {share}"
        (pixels,) = looked.take(torch.tensor([position]))
        return encode(pixels.numpy()), told, printable(looked.name(position))

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
    return seen, [plot_confusion(confusion, classes, looked.part)]


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
        "type": "heatmap",
        "z": shares.sqrt().round(decimals=4).tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Cividis",
        "showscale": False,
        "xgap": 1 if is_small else 0,
        "ygap": 1 if is_small else 0,
        "text": confusion.tolist(),
        "customdata": names,
        "hoverongaps": False,
        "hovertext": [
            [
                f"{names[i]} taken for {names[j]}: {confusion[i, j]:,} images, {shares[i, j]:.1%}"
                for j in range(len(names))
            ]
            for i in range(len(names))
        ]
        if len(names) <= 40
        else None,
        "hovertemplate": "%{hovertext}<extra></extra>"
        if len(names) <= 40
        else "%{customdata} (row %{y}), column %{x}: %{text} images<extra></extra>",
    }
    if is_small:
        trace["texttemplate"] = "%{text}"
    if len(names) > 40:  # a text for each of so many cells would be most of the page
        del trace["hovertext"], trace["customdata"]
        trace["hovertemplate"] = "%{y} taken for %{x}: %{text} images<extra></extra>"
    font = {"tickfont": {"size": 11 if is_small else 8}}
    layout = {
        "height": max(380, 14 * len(classes) + 160),
        "xaxis": {"title": {"text": "predicted"}, "tickangle": -90, **ticks, **font},
        "yaxis": {"title": {"text": "class"}, "autorange": "reversed", **ticks, **font},
    }
    return Plot("confusion", f"Confusion matrix of {int(confusion.sum()):,} {part} images", [trace], layout)


# --- Probabilities and numbers ------------------------------------------------------------------------


def show_calibration(found: Evidence, looked: Looked, task: Classification) -> tuple[Table, str, list[Plot]]:
    """Reliability diagram, ECE and log loss before and after the temperature that suits the validation images."""
    before = measure_calibration(task, looked.outputs, looked.labels)
    rows: list[list[Any]] = [["as trained", 1.0, before.log_loss, before.ece]]
    drawn = [("as trained", before, ORANGE, "circle")]
    note = "No validation images, so no temperature: it is never fitted on test images."
    if found.valid is not None:
        temperature = fit_temperature(found.valid.outputs, found.valid.labels)
        after = measure_calibration(task, looked.outputs, looked.labels, temperature)
        rows.append(["with a temperature", temperature, after.log_loss, after.ece])
        drawn.append(("with a temperature", after, BLUE, "square"))
        note = (
            f"Of {before.images:,} {looked.part} images; the temperature is fitted on {len(found.valid.labels):,} "
            f"validation images. cnnlab calibrate and predict --calibrated use it."
        )
    traces: list[dict[str, Any]] = [
        {
            "x": [0, 1],
            "y": [0, 1],
            "mode": "lines",
            "name": "calibrated",
            "line": {"dash": "dot", "color": "#888"},
            "hoverinfo": "skip",
        }
    ]
    for name, calibration, colour, symbol in drawn:
        traces.append(
            {
                "x": [each.confidence for each in calibration.bins],
                "y": [each.accuracy for each in calibration.bins],
                "text": [f"{each.images:,} images" for each in calibration.bins],
                "name": name,
                "mode": "lines+markers",
                "marker": {"symbol": symbol, "size": 7},
                "line": {"color": colour},
                "hovertemplate": "confidence %{x:.3f}, accuracy %{y:.3f}, %{text}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "confidence"}, "range": [0, 1.02]},
        "yaxis": {"title": {"text": "accuracy"}, "range": [0, 1.02]},
    }
    headings = ("probabilities", "temperature", "log loss", "ECE")
    return Table(headings, rows), note, [Plot("reliability", "Reliability", traces, layout)]


def plot_numbers(looked: Looked, names: Sequence[str]) -> Plot:
    """What is predicted beside what is right, of a regression."""
    labels, outputs = looked.labels.double(), looked.outputs
    ends = [float(torch.cat([labels, outputs]).min()), float(torch.cat([labels, outputs]).max())]
    traces: list[dict[str, Any]] = [
        {"x": ends, "y": ends, "mode": "lines", "name": "right", "line": {"dash": "dot", "color": "#888"}}
    ]
    for column, name in enumerate(names):
        traces.append(
            {
                "x": labels[:, column].tolist(),
                "y": outputs[:, column].tolist(),
                "mode": "markers",
                "name": plain(name),
                "type": "scattergl" if len(labels) > 5000 else "scatter",
            }
        )
    layout = {"xaxis": {"title": {"text": "label"}}, "yaxis": {"title": {"text": "prediction"}}}
    return Plot("numbers", f"Predictions of {len(labels):,} {looked.part} images", traces, layout)


# --- The network --------------------------------------------------------------------------------------


def show_network(found: Evidence, looked: Looked) -> dict[str, Any]:
    """First-layer kernels, activation maps of some mistakes and doubtful hits, feature maps of the first of them."""
    assert found.trained is not None, "asked with a network"
    model, task = found.trained.network.model, found.trained.facts.task
    convolutions = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    if not convolutions or not looked.batches.images.images.holds_pixels:
        return {"kernels": None, "looked_at": [], "feature_maps": []}
    kernels = draw_kernels(convolutions[0][1].weight.detach().float().cpu())
    if not isinstance(task, Classification):
        return {"kernels": kernels, "looked_at": [], "feature_maps": []}
    classes = [printable(name) for name in found.trained.facts.classes]
    predicted, certainty = task.predict(looked.outputs), task.to_scores(looked.outputs).amax(1)
    wrong = predicted != looked.labels
    chosen = [*order_by(certainty, wrong, True)[: MAX_LOOKED_AT // 2].tolist()]
    chosen += order_by(certainty, ~wrong, False)[: MAX_LOOKED_AT - len(chosen)].tolist()
    looked_at, maps = [], []
    for position in chosen:
        images = take_normalised(looked, position)
        layer = find_spatial_layer(model, images)
        colours = look_at(looked.batches, torch.tensor([position]))[0].numpy()
        label, taken = int(looked.labels[position]), int(predicted[position])
        looked_at.append((encode_colours(colours), f"{classes[label]}", looked.name(position)))
        if layer is None:
            continue
        for index in dict.fromkeys([taken, label]):
            cam = compute_gradcam(model, layer, images, index)
            looked_at.append(
                (encode_colours(overlay(colours, cam.numpy())), f"evidence for {classes[index]}", looked.name(position))
            )
        if position == chosen[0]:
            maps = draw_feature_maps(feature_maps(model, spread(convolutions, MAX_LAYERS), images))
    return {"kernels": kernels, "looked_at": looked_at, "feature_maps": maps}


def take_normalised(looked: Looked, position: int) -> Tensor:
    """One image as the network is given it: (1, C, H, W)."""
    size = looked.batches.batch_size
    images, _ = looked.batches.batch(0, position // size)
    return images[position % size : position % size + 1].clone()


def encode_colours(colours: np.ndarray) -> str:
    """float (H, W, C) in 0…1"""
    return encode((255 * colours).round().astype(np.uint8), side=160)


def overlay(colours: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """An image with an activation map over it: yellow where the evidence is, blue where there is none."""
    from matplotlib import colormaps

    size = (colours.shape[1], colours.shape[0])
    smooth = np.asarray(Image.fromarray(cam.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    grey = colours.mean(2, keepdims=True)
    return 0.5 * grey + 0.5 * colormaps["cividis"](smooth)[..., :3]


def draw_kernels(weight: Tensor) -> tuple[str, str, int]:
    """Kernels (out, in, h, w): in colour for three input channels, otherwise a grey picture a channel; grey is zero."""
    out_channels, in_channels, height, width = weight.shape
    scaled = 0.5 + weight / (2 * weight.abs().max().clamp(min=1e-12))
    if in_channels != 3:
        scaled = scaled.flatten(0, 1).unsqueeze(1)
    kernels = (255 * scaled[:256]).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    columns = min(16, len(kernels))
    told = f"{out_channels} kernels of {in_channels}×{height}×{width} of the first convolution (grey is zero)"
    return encode_exactly(tile(kernels, columns)), told, 44 * columns


def draw_feature_maps(maps: dict[str, Tensor]) -> list[tuple[str, str, int]]:
    """Each layer's first maps, each from its least to its largest value, of the first picture above."""
    drawn = []
    for name, layer in maps.items():
        channels, height, width = layer.shape
        low, high = layer.amin((1, 2), keepdim=True), layer.amax((1, 2), keepdim=True)
        scaled = ((layer - low) / (high - low).clamp(min=1e-12))[:MAX_MAPS].float()
        pixels = (255 * scaled).round().to(torch.uint8).unsqueeze(3).numpy()
        told = f"Feature maps of {printable(name)} for the first picture: {len(pixels)} of {channels}, {height}×{width}"
        drawn.append((encode_exactly(tile(pixels, 8)), told, 8 * max(44, width)))
    return drawn


# --- From files ---------------------------------------------------------------------------------------


def read_drawn(found: Evidence) -> list[tuple[str, str]]:
    """Pictures that the run has drawn itself: augmented images; and what the page has no images to draw anew."""
    run = found.run
    files = [run.augmented] if found.looked is not None else [run.augmented, run.confusion, run.mistakes]
    return [(compress(path), path.name) for path in files if path.is_file()]


def compress(path: Path) -> str:
    """A PNG as WebP, a tenth of it."""
    file = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(file, "webp", quality=QUALITY)
    return to_uri(file.getvalue(), "webp")


def tabulate_costs(found: Evidence) -> Table:
    summary = found.summary
    speed, memory = summary.get("speed", {}), summary.get("peak_memory_mb", {})
    rows = [[f"a step: {part}, ms", taken] for part, taken in (speed.get("step_milliseconds") or {}).items()]
    rows += [[f"total {name.replace('_', ' ')}", value] for name, value in summary.get("totals", {}).items()]
    rows += [[name.replace("_", " "), speed[name]] for name in ("images_per_second", "share_of_peak") if name in speed]
    rows += [[f"peak memory of the {where}, MB", value] for where, value in memory.items()]
    rows += [[f"{part} images", number] for part, number in summary.get("images", {}).items()]
    return Table(("what", "value"), rows)


def compare_with_defaults(config: dict[str, Any]) -> Table | None:
    """The keys whose values are not what `cnnlab train` would take with the same choices in the groups."""
    from cnnlab.composition import CONF, compose_tree, list_choices, resolve

    if not config:
        return None
    groups = {
        group: config[group]["name"]
        for group in ("model", "dataset", "optimizer", "schedule", "loss", "average")
        if isinstance(config.get(group), dict) and config[group].get("name")
    }
    known = {group: name for group, name in groups.items() if name in list_choices(group, [CONF])}
    plain_default = flatten(resolve(compose_tree([], [CONF])))
    defaults = flatten(resolve(compose_tree([f"{group}={name}" for group, name in known.items()], [CONF])))
    rows = [
        [group, f"{name}", plain_default.get(f"{group}.name")]
        for group, name in groups.items()
        if name != plain_default.get(f"{group}.name")
    ]
    own = flatten(config)
    for key, value in own.items():
        is_choice = key.partition(".")[0] in groups and key.endswith(".name")
        if not is_choice and key in defaults and value != defaults[key] or key not in defaults:
            rows.append([key, printable(value), printable(defaults.get(key, "–"))])
    return Table(("key", "value", "default"), rows) if rows else None
