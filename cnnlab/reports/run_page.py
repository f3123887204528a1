"""The page of one run. Every number comes from the run directory, or is computed anew by its network."""

from __future__ import annotations

import io
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cnnlab.errors import printable
from cnnlab.reports.confusion import show_classes
from cnnlab.reports.evidence import Evaluation, Evidence, add_evaluations, read_evidence
from cnnlab.reports.learned import show_network
from cnnlab.reports.page import BLUE, GREEN, ORANGE, QUALITY, Plot, Table, plain, render, to_uri
from cnnlab.runs.calibration import fit_temperature, measure_calibration
from cnnlab.runs.directory import RunDirectory
from cnnlab.signature import flatten
from cnnlab.tasks import Classification


def write_run_page(run: RunDirectory, overrides: Sequence[str] = ()) -> str:
    """The page of a run. Raises ConfigError without plotly."""
    found = read_evidence(run)
    add_evaluations(found, overrides)
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
    learned: dict[str, Any] = {"kernels": None, "activation_maps": [], "feature_maps": []}
    calibration: tuple[Table, str, list[Plot]] | None = None
    if found.evaluation is not None and found.trained is not None:
        evaluation, trained = found.evaluation, found.trained
        task = trained.facts.task
        if isinstance(task, Classification):
            classes = [printable(name) for name in trained.facts.classes]
            told = found.attempt("confusion matrix", lambda: show_classes(evaluation, task, classes), None)
            if told is not None:
                seen |= told[0]
                plots += told[1]
            calibration = found.attempt("calibration", lambda: show_calibration(found, evaluation, task), None)
            if calibration is not None:
                plots += calibration[2]
        elif not task.has_probabilities:
            plots += found.attempt("predictions", lambda: [plot_numbers(evaluation, trained.facts.classes)], [])
        learned = found.attempt("feature maps", lambda: show_network(found, evaluation), learned)
    images: list[tuple[str, str]] = found.attempt("pictures of the run", lambda: read_drawn(found), [])
    sections = [
        ("curves", "Curves", bool(curves)),
        ("classes", "Classes", bool(found.classes or seen["cells"])),
        ("pictures", "Pictures", bool(seen["mistakes"] or seen["doubtful"])),
        ("calibration", "Calibration", calibration is not None),
        ("network", "Network", bool(learned["kernels"] or learned["activation_maps"])),
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
        part_name=found.evaluation.part if found.evaluation else "evaluated",
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
    facts += [(name, totals[name]) for name in ("epochs", "seconds") if name in totals]
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
    both = [(row.get("valid_loss"), row.get("valid_log_loss")) for row in rows]
    is_same = all(a is None or b is None or math.isclose(a, b, rel_tol=1e-4) for a, b in both)
    if "loss" in wanted and not is_same:  # label smoothing, another loss
        wanted["loss"].append("valid_log_loss")
    wanted["lr"] = ["lr"]
    plots = []
    for title, columns in wanted.items():
        traces = [
            {
                "x": epochs,
                "y": [row.get(column) for row in rows],
                "name": plain(column.replace("_", " ")),
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
            "xaxis": {"title": {"text": "epoch"}, "dtick": 1 if len(rows) <= 10 else None},
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


# --- Probabilities and numbers ------------------------------------------------------------------------


def show_calibration(found: Evidence, evaluation: Evaluation, task: Classification) -> tuple[Table, str, list[Plot]]:
    """Reliability diagram, ECE and log loss before and after the temperature that suits the validation images."""
    before = measure_calibration(task, evaluation.outputs, evaluation.labels)
    rows: list[list[Any]] = [["as trained", 1.0, before.log_loss, before.ece]]
    drawn = [("as trained", before, ORANGE, "circle")]
    note = "No validation images, so no temperature: it is never fitted on test images."
    if found.valid is not None:
        temperature = fit_temperature(found.valid.outputs, found.valid.labels)
        after = measure_calibration(task, evaluation.outputs, evaluation.labels, temperature)
        rows.append(["with a temperature", temperature, after.log_loss, after.ece])
        drawn.append(("with a temperature", after, BLUE, "square"))
        note = (
            f"Of {before.images:,} {evaluation.part} images; the temperature is fitted on {len(found.valid.labels):,} "
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


def plot_numbers(evaluation: Evaluation, names: Sequence[str]) -> Plot:
    """What is predicted beside what is right, of a regression."""
    labels, outputs = evaluation.labels.double(), evaluation.outputs
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
    return Plot("numbers", f"Predictions of {len(labels):,} {evaluation.part} images", traces, layout)


# --- From files ---------------------------------------------------------------------------------------


def read_drawn(found: Evidence) -> list[tuple[str, str]]:
    """Pictures that the run has drawn itself: augmented images; and what the page has no images to draw anew."""
    run = found.run
    files = [run.augmented] if found.evaluation is not None else [run.augmented, run.confusion, run.mistakes]
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
    return Table(("key", "value", "default"), rows)
