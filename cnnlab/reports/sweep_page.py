"""The page of a sweep: the leaderboard, what each parameter did, all curves, and what was ended early and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlab.errors import CnnlabError, printable
from cnnlab.metrics import is_higher_better
from cnnlab.reports.page import BLUE, GREEN, ORANGE, PINK, Plot, Table, plain, render
from cnnlab.sweeps.answers import rank
from cnnlab.sweeps.compare import explain_variance
from cnnlab.sweeps.directory import Outcome, SweepDirectory, Trial

COLOURS = {"completed": BLUE, "pruned": ORANGE, "failed": PINK}  # and others
SYMBOLS = {"completed": "circle", "pruned": "x", "failed": "triangle-up"}


def write_sweep_page(path: Path) -> str:
    """Raises ConfigError for a sweep whose plan or trials cannot be read."""
    sweep = SweepDirectory.open(path)
    plan, trials, told = sweep.read_plan(), sweep.read_trials(), sweep.read_outcomes()
    metric = str(plan.get("metric"))
    outcomes = {trial.number: sweep.find_outcome(trial, metric, told) for trial in trials}
    curves, missing = read_curves(sweep, trials, metric)
    counts = {
        status: sum(o.status == status for o in outcomes.values())
        for status in dict.fromkeys(outcome.status for outcome in outcomes.values())
    }
    keys = list(dict.fromkeys(text.partition("=")[0] for trial in trials for text in trial.values))
    plots = [*plot_parallel(trials, outcomes, metric, keys), *plot_axes(trials, outcomes, metric, keys)]
    plots += plot_curves(trials, outcomes, curves, metric)
    return render(
        "sweep.html",
        plots,
        {},
        title=f"Sweep {sweep.path.resolve().name}",
        subtitle=f"{len(trials):,} trials, by {metric}: "
        + ", ".join(f"{number} {status}" for status, number in counts.items()),
        leaderboard=tabulate_leaders(trials, outcomes, metric),
        variance=Table(("parameter", "share of the variance"), list(explain_completed(trials, outcomes).items())),
        axes=[plot.name for plot in plots if plot.name.startswith("axis_")],
        ended=Table(
            ("trial", "values", "status", "epochs", metric, "reason"),
            [
                [trial.number, " ".join(trial.values), o.status, o.epochs, o.score, o.reason]
                for trial in trials
                if (o := outcomes[trial.number]).status not in ("completed", "running", "waiting")
            ],
        ),
        missing=missing,
    )


def tabulate_leaders(trials: Sequence[Trial], outcomes: Mapping[int, Outcome], metric: str) -> Table:
    """A row for each configuration, the best first, with the deviation over its seeds."""
    rows = [
        [int(number), row["values"], row["mean"], row["std"] if row["count"] > 1 else None, int(row["count"]),
         "whole" if row["whole"] else "ended early"]
        for number, row in rank(trials, outcomes, metric).iterrows()
    ]  # fmt: skip
    return Table(("configuration", "values", f"mean {metric}", "deviation", "seeds", "trained"), rows)


def read_curves(sweep: SweepDirectory, trials: Sequence[Trial], metric: str) -> tuple[dict[int, Any], list[str]]:
    """Epochs and values of each trial, and what could not be read."""
    curves, missing = {}, []
    for trial in trials:
        try:
            rows = [row for row in sweep.run(trial.number).read_metrics() if row.get(metric) is not None]
            if rows:
                curves[trial.number] = [row["epoch"] for row in rows], [row[metric] for row in rows]
        except (CnnlabError, KeyError) as error:
            missing.append(f"curve of trial {trial.number}: {error}")
    return curves, missing


def read_values(trial: Trial) -> dict[str, str]:
    return dict(text.split("=", 1) for text in trial.values)


def as_numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def is_spread(numbers: Sequence[float]) -> bool:
    """Whether numbers are better told apart by their logarithms."""
    return min(numbers, default=0) > 0 and max(numbers) / min(numbers) >= 20


def find_scored(trials: Sequence[Trial], outcomes: Mapping[int, Outcome], keys: Sequence[str]) -> list[Trial]:
    return [t for t in trials if outcomes[t.number].score is not None and set(keys) <= read_values(t).keys()]


def plot_parallel(
    trials: Sequence[Trial], outcomes: Mapping[int, Outcome], metric: str, keys: Sequence[str]
) -> list[Plot]:
    """Parallel coordinates, to be brushed: an axis for each parameter, and one for the score."""
    scored = find_scored(trials, outcomes, keys)
    if len(scored) < 2 or not keys:
        return []
    dimensions: list[dict[str, Any]] = []
    for key in keys:
        values = [read_values(trial)[key] for trial in scored]
        numbers = as_numbers(values)
        if numbers is None:
            choices = sorted(set(values))
            ticks = {"tickvals": list(range(len(choices))), "ticktext": [plain(choice, 24) for choice in choices]}
            dimensions.append({"label": plain(key, 24), "values": [choices.index(value) for value in values], **ticks})
        elif is_spread(numbers):
            ends = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
            decades = list(range(ends[0], ends[1] + 1))
            ticks = {"tickvals": decades, "ticktext": [f"{10.0**decade:g}" for decade in decades], "range": list(ends)}
            dimensions.append({"label": plain(key, 24), "values": [math.log10(n) for n in numbers], **ticks})
        else:
            dimensions.append({"label": plain(key, 24), "values": numbers})
    scores = [outcomes[trial.number].score for trial in scored]
    dimensions.append({"label": plain(metric), "values": scores})
    line = {"color": scores, "colorscale": "Cividis", "reversescale": not is_higher_better(metric)}
    trace = {"type": "parcoords", "dimensions": dimensions, "line": line}
    layout = {"margin": {"l": 60, "r": 60, "t": 70, "b": 30}, "height": 420}
    return [Plot("parallel", "All parameters beside each other; drag along an axis to choose", [trace], layout)]


def plot_axes(trials: Sequence[Trial], outcomes: Mapping[int, Outcome], metric: str, keys: Sequence[str]) -> list[Plot]:
    """The score by each parameter."""
    plots = []
    for index, key in enumerate(keys):
        scored = find_scored(trials, outcomes, [key])
        numbers = as_numbers([read_values(trial)[key] for trial in scored])
        traces = []
        for status in dict.fromkeys(outcomes[trial.number].status for trial in scored):
            chosen = [place for place, trial in enumerate(scored) if outcomes[trial.number].status == status]
            shown = [plain(read_values(scored[p])[key], 24) for p in chosen]
            traces.append({
                "x": shown if numbers is None else [numbers[p] for p in chosen],
                "y": [outcomes[scored[p].number].score for p in chosen], "mode": "markers", "name": plain(status),
                "marker": {"color": COLOURS.get(status, GREEN), "symbol": SYMBOLS.get(status, "square"), "size": 8},
                "text": [f"trial {scored[p].number}" for p in chosen],
            })  # fmt: skip
        kind = "category" if numbers is None else "log" if is_spread(numbers) else "linear"
        layout = {
            "xaxis": {"title": {"text": plain(key)}, "type": kind}, "yaxis": {"title": {"text": plain(metric)}},
        }  # fmt: skip
        plots.append(Plot(f"axis_{index}", printable(key), traces, layout))
    return plots


def plot_curves(
    trials: Sequence[Trial], outcomes: Mapping[int, Outcome], curves: Mapping[int, Any], metric: str
) -> list[Plot]:
    """The curves of all trials; those that were ended early end there."""
    traces = []
    for trial in trials:
        if trial.number in curves:
            epochs, values = curves[trial.number]
            status = outcomes[trial.number].status
            told = plain(f"trial {trial.number} {' '.join(trial.values)}", 80)
            traces.append({
                "x": epochs, "y": values, "mode": "lines+markers" if len(epochs) == 1 else "lines", "name": told,
                "line": {"color": COLOURS.get(status, GREEN), "dash": "dot" if status == "pruned" else "solid"},
                "hovertemplate": f"%{{y:.4f}} at epoch %{{x}}<br>{told}, {plain(status)}<extra></extra>",
                "showlegend": False,
            })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": plain(metric)}},
        "hovermode": "closest",
    }
    return [Plot("trials", "Curves of all trials (dotted: ended early)", traces, layout)] if traces else []


def explain_completed(trials: Sequence[Trial], outcomes: Mapping[int, Outcome]) -> dict[str, float]:
    """The share of the scores' variance that each axis explains, of the trials that went to their end."""
    scores = {trial.number: outcomes[trial.number].score for trial in trials}
    whole = [trial for trial in trials if outcomes[trial.number].status == "completed"]
    scored = [(trial, score) for trial in whole if (score := scores[trial.number]) is not None]
    rows = [dict(text.split("=", 1) for text in trial.values) for trial, _ in scored]
    return explain_variance(rows, [score for _, score in scored])
