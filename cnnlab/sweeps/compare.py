"""Runs beside each other: a table of what differs and what came of it, and whether a difference is more than chance."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnlab.errors import ConfigError, DataError, format_list
from cnnlab.metrics import is_higher_better
from cnnlab.runs.directory import RunDirectory, has_tags
from cnnlab.signature import flatten
from cnnlab.sweeps.directory import SweepDirectory, read_score

if TYPE_CHECKING:
    import numpy as np
    import pandas

NUM_RESAMPLES = 10_000
LEVEL = 0.05  # below which a difference is called shown
# Of a configuration: what says where, not what.
NOT_COMPARED = ("name", "output_dir", "imports", "seed", "engine.threads", "engine.device", "tags", "note", "logger")


def compare(paths: Sequence[str], by: str | None, metric: str | None, form: str, tags: Sequence[str] = ()) -> None:
    """Print a row for each configuration, runs that differ in the seed alone in one; best first.

    `form` is "text", "csv" or "json"; with `tags` only runs that have all of these count. Raises ConfigError for what
    is no run, or has no such metric, key or tag.
    """
    found = {run.path.resolve(): run for path in paths for run in find_runs(path)}  # each once
    runs = [run for run in found.values() if has_tags(run.read_config(), tags)]
    if not runs:
        raise ConfigError(f"--tag: no run here is tagged {' and '.join(tags)}; expected tags that some run has")
    runs, rows, repeats = leave_out_repeats(runs, [read_row(run) for run in runs])
    metric = metric or choose_metric(runs)
    table = tabulate(runs, rows, by, metric)
    if form == "csv":
        print(table.to_csv(index=False), end="")
    elif form == "json":
        print(json.dumps(json.loads(table.to_json(orient="records", double_precision=15)), indent=2))
    else:
        print(table.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}"))
        print_explained(runs, rows, metric)
    for remark in (*repeats, *find_differences_of_data(runs)):
        print(remark, file=sys.stderr)


def leave_out_repeats(
    runs: Sequence[RunDirectory], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[RunDirectory], list[Mapping[str, Any]], list[str]]:
    """Of runs of one configuration and seed the newest of those that went to their end; and a remark on the others.

    They are one sample: counted as several they would make the deviation small and chance look like a difference.
    """
    alike: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        same = {key: row[key] for key in sorted(row) if key == "seed" or key not in NOT_COMPARED}
        alike.setdefault(json.dumps(same, default=str), []).append(number)

    def rank(number: int) -> tuple[bool, str]:
        return runs[number].read_status() == "completed", runs[number].path.name

    kept = {max(numbers, key=rank) if len(numbers) > 1 else numbers[0] for numbers in alike.values()}
    left_out = [run.path.name for number, run in enumerate(runs) if number not in kept]
    remark = format_list("not counted, having the configuration and the seed of another run here", left_out)
    return (
        [run for number, run in enumerate(runs) if number in kept],
        [row for number, row in enumerate(rows) if number in kept],
        [remark] if left_out else [],
    )


def print_explained(runs: Sequence[RunDirectory], rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Which keys mattered, where several differ, by the runs that went to their end."""
    keys, chosen, scores = find_varied(rows), [], []
    for run, row in zip(runs, rows, strict=True):
        summary = run.read_json(run.summary)
        score = read_score(run, summary, metric)
        if summary.get("status") == "completed" and score is not None:
            chosen.append({key: write_value(row.get(key)) for key in keys})
            scores.append(score)
    for key, share in explain_variance(chosen, scores).items() if len(keys) > 1 else ():
        print(f"{key} explains {share:.0%} of the variance of {metric} alone")


def find_runs(path: str) -> list[RunDirectory]:
    """The run at a path, or the trials of the sweep there. Raises ConfigError."""
    if SweepDirectory(path).plan.is_file():
        sweep = SweepDirectory.open(path)
        runs = [sweep.run(trial.number) for trial in sweep.read_trials()]
        return [run for run in runs if run.config.is_file()]
    return [RunDirectory.open(path)]


def read_row(run: RunDirectory) -> dict[str, Any]:
    """The configuration of a run, keys joined by dots."""
    return flatten(run.read_config())


def choose_metric(runs: Sequence[RunDirectory]) -> str:
    """What the runs select by. Raises ConfigError where they do not agree."""
    found = set()
    for run in runs:
        summary = run.read_json(run.summary)
        first = run.fold(0).read_json(run.fold(0).summary) if "folds" in summary else summary
        if "select_by" in first:
            found.add(first["select_by"])
        elif first.get("best"):
            found.add("valid_accuracy" if "valid_accuracy" in first["best"] else "valid_loss")
    if len(found) > 1:
        raise ConfigError(
            f"--metric: missing; the runs were selected by {', '.join(sorted(found))}: expected one of them"
        )
    return found.pop() if found else "valid_accuracy"


def tabulate(
    runs: Sequence[RunDirectory], rows: Sequence[Mapping[str, Any]], by: str | None, metric: str
) -> pandas.DataFrame:
    """A row for each configuration, or each value of `by`: mean, std (n - 1) and number of runs, best mean first."""
    import pandas

    keys = list(dict.fromkeys(key for row in rows for key in row))
    if by is not None and by not in keys:
        from cnnlab.signature import suggest

        raise ConfigError(f"--by: no key '{by}' in these runs; {suggest(by, keys)}")
    shown = [by] if by is not None else find_varied(rows)
    scores = [read_best_score(run, metric) for run in runs]
    if runs and all(score is None for score in scores):
        known = dict.fromkeys(
            column for run in runs for row in run.read_metrics()[-1:] for column in row if row[column] is not None
        )
        there = [column for column in known if column.startswith(("train_", "valid_"))]
        raise ConfigError(f"--metric: no run here has {metric}; expected one of {', '.join(there) or 'none yet'}")
    found = pandas.DataFrame(
        [
            {
                **{key: write_value(row.get(key)) for key in shown},
                "tags": ", ".join(row.get("tags") or ()),
                "note": row.get("note") or "",
                "score": score,
                "run": run.path.name,
                "status": run.read_status(),
            }
            for run, row, score in zip(runs, rows, scores, strict=True)
        ]
    )
    groups = found.groupby(shown, sort=False, dropna=False) if shown else found.groupby(lambda _: 0)
    table = groups.agg(
        **{metric: ("score", "mean"), "std": ("score", "std"), "runs": ("score", "count")},
        best_run=("run", "first"),
        status=("status", lambda values: ", ".join(sorted(set(map(str, values))))),
        **{name: (name, lambda values: "; ".join(v for v in dict.fromkeys(values) if v)) for name in ("tags", "note")},
    )
    table = table.drop(columns=[name for name in ("tags", "note") if not table[name].any()])
    best = found.loc[found["score"].dropna().index]
    if len(best):
        pick = "idxmax" if is_higher_better(metric) else "idxmin"
        grouped = best.groupby(shown, sort=False, dropna=False) if shown else best.groupby(lambda _: 0)
        table["best_run"] = grouped["score"].agg(lambda values: found["run"][getattr(values, pick)()])
    table = table.reset_index() if shown else table.reset_index(drop=True)
    return table.sort_values(metric, ascending=not is_higher_better(metric), kind="stable", na_position="last")


def read_best_score(run: RunDirectory, metric: str) -> float | None:
    """The metric at the best epoch; of a run that has not ended, or was killed, the best so far."""
    score = read_score(run, run.read_json(run.summary), metric)
    if score is not None:
        return score
    known = [row[metric] for row in run.read_metrics() if row.get(metric) is not None]
    return (max if is_higher_better(metric) else min)(known, default=None)


def find_varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that not all runs agree on, but for those that say where and on which seed."""
    keys = dict.fromkeys(key for row in rows for key in row if not key.startswith("logger."))
    branches = {key[:index] for key in keys for index, letter in enumerate(key) if letter == "."}  # empty in some runs
    shown = [key for key in keys if key not in NOT_COMPARED and key not in branches]
    return [key for key in shown if len({repr(row.get(key)) for row in rows}) > 1]


def write_value(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else json.dumps(value)


def explain_variance(rows: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> dict[str, float]:
    """How much of the scores' variance each key explains alone, at least 0: ω², which is 0 on average of a mere chance.

    Hays, "Statistics for psychologists", 1963: (between - (groups - 1) · error) / (total + error) of the sums of
    squares, where the error is the mean square within groups. Numbers of which there are more than five are put into
    four groups of equal size first. Nothing is said of a key whose values each stand for one score.
    """
    import pandas

    found = pandas.DataFrame([dict(row) for row in rows])
    values = pandas.Series(scores, dtype=float)
    total = ((values - values.mean()) ** 2).sum()
    explained: dict[str, float] = {}
    if not total:
        return explained
    for key in found.columns:
        groups = found[key]
        numbers = pandas.to_numeric(groups, errors="coerce")
        if (numbers.notna() | groups.isna()).all() and numbers.nunique() > 5:
            groups = pandas.qcut(numbers, 4, duplicates="drop")
        groups = groups.astype(str)  # null is a group too
        num_groups = groups.nunique()
        if 1 < num_groups < len(values):
            within = ((values - values.groupby(groups).transform("mean")) ** 2).sum()
            error = within / (len(values) - num_groups)
            explained[key] = max(0.0, float((total - within - (num_groups - 1) * error) / (total + error)))
    return dict(sorted(explained.items(), key=lambda item: -item[1]))


def find_differences_of_data(runs: Sequence[RunDirectory]) -> list[str]:
    """Where runs cannot be compared: validated or tested on other images."""
    remarks = []
    known = {run: run.read_json((run.fold(0) if run.fold(0).path.is_dir() else run).dataset) for run in runs}
    for part in ("valid", "test"):
        prints = {(facts.get("fingerprints") or {}).get(part) for facts in known.values() if facts}
        if len(prints) > 1:
            what = "validated" if part == "valid" else "tested"
            remarks.append(f"not comparable: these runs were {what} on {len(prints)} different sets of images")
    return remarks


# --- Two runs on the same images ----------------------------------------------------------------------


@dataclass(frozen=True)
class PairedTest:
    """What two networks' predictions for the same images show."""

    num_images: int
    accuracies: tuple[float, float]
    only_first: int  # images that the first alone has right
    only_second: int
    p: float  # of McNemar's exact test
    low: float  # of the difference of accuracies, second - first: 95 % by paired bootstrap
    high: float

    def __str__(self) -> str:
        first, second = self.accuracies
        lines = [
            f"{self.num_images:,} images: accuracy {first:.4f} and {second:.4f}, difference {second - first:+.4f} "
            f"(95 % between {self.low:+.4f} and {self.high:+.4f}, paired bootstrap)",
            f"the first alone is right on {self.only_first:,}, the second alone on {self.only_second:,}: "
            f"p = {self.p:.3g} (McNemar's exact test)",
        ]
        if self.only_first == self.only_second == 0:
            lines.append("Both are right on the same images.")
        elif self.p < LEVEL:
            better = "second" if self.only_second > self.only_first else "first"
            lines.append(f"The {better} network is better on images like these: chance alone would rarely show this.")
        else:
            lines.append("Not shown: chance alone gives such a difference often. More test images would tell more.")
        lines.append("This is of these two networks; for two configurations compare several seeds of each.")
        return "\n".join(lines)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p of as many discordant pairs, each equally likely to be of either kind (McNemar, 1947)."""
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    return min(1.0, 2 * tail)


def bootstrap_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % of the mean of second - first (N,), images drawn again in pairs (Efron's percentile interval)."""
    import numpy as np

    values, counts = np.unique(second.astype(np.float64) - first.astype(np.float64), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(first), counts / len(first), size=NUM_RESAMPLES)
    low, high = np.quantile(drawn @ values / len(first), [0.025, 0.975])
    return float(low), float(high)


def compare_pair(first: str, second: str) -> PairedTest:
    """Predict the test images by both runs' networks. Raises ConfigError where that is no fair comparison."""
    import numpy as np

    from cnnlab.runs.predict import predict_in_chunks, read_part
    from cnnlab.runs.trained import load_trained

    right = []
    labels: list[Any] = []
    for path in (first, second):
        member = load_trained(RunDirectory.open(path))
        if not member.facts.task.has_classes:
            raise ConfigError(
                f"{path}: is of a {member.facts.task} problem; --test counts images that are right, of one class each"
            )
        series = read_part(member, "test")
        labels.append((series.images.ids, series.labels))
        assert series.labels is not None
        scores = np.concatenate(list(predict_in_chunks([member], series.images, member.config.engine.tta, "logits")))
        right.append(scores.argmax(1) == series.labels.numpy())
    if labels[0][0] != labels[1][0] or not bool((labels[0][1] == labels[1][1]).all()):
        raise DataError(
            f"{first}, {second}: were not tested on the same images; expected runs of one dataset and split"
        )
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    low, high = bootstrap_difference(*right)
    accuracies = (float(right[0].mean()), float(right[1].mean()))
    return PairedTest(len(right[0]), accuracies, only_first, only_second, mcnemar(only_first, only_second), low, high)
