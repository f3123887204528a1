"""What a sweep found: a table, how it stands, which configuration is best and by how much, pictures."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cnnlab.metrics import is_higher_better
from cnnlab.sweeps.directory import Outcome, SweepDirectory, Trial

NUM_SHOWN = 5  # configurations at the end of a sweep
Outcomes = Mapping[int, Outcome]


def write_table(sweep: SweepDirectory, trials: Sequence[Trial], outcomes: Outcomes, metric: str) -> None:
    """trials.csv: a row for each trial, whatever became of it."""
    keys = list(dict.fromkeys(text.partition("=")[0] for trial in trials for text in trial.values))
    rows: list[list[Any]] = [["trial", "configuration", "seed", *keys, "status", metric, "epochs", "seconds", "reason"]]
    for trial in trials:
        outcome, values = outcomes[trial.number], dict(text.split("=", 1) for text in trial.values)
        rows.append(
            [trial.number, trial.configuration, trial.seed, *(values.get(key) for key in keys), outcome.status]
            + [outcome.score, outcome.epochs, outcome.seconds, outcome.reason]
        )
    sweep.files.write_csv(sweep.table, rows)


def rank(trials: Sequence[Trial], outcomes: Outcomes, metric: str) -> Any:
    """A row for each configuration, the best mean first: a pandas table with mean, std (n - 1) and count of seeds.

    Configurations that went to their end stand before those that were ended early, which had less time.
    """
    import pandas

    found = pandas.DataFrame(
        [
            (trial.configuration, " ".join(trial.values), outcomes[trial.number].score, outcomes[trial.number].status)
            for trial in trials
        ],
        columns=["configuration", "values", "score", "status"],
    )
    found = found[found["score"].notna() & found["status"].isin(["completed", "pruned"])]
    found["whole"] = found["status"] == "completed"
    groups = found.groupby("configuration").agg(
        values=("values", "first"),
        mean=("score", "mean"),
        std=("score", "std"),
        count=("score", "count"),
        whole=("whole", "all"),
    )
    return groups.sort_values(["whole", "mean"], ascending=[False, not is_higher_better(metric)], kind="stable")


def describe_best(sweep: SweepDirectory, trials: Sequence[Trial], outcomes: Outcomes, metric: str) -> str:
    table = rank(trials, outcomes, metric)
    counts: dict[str, int] = defaultdict(int)
    for outcome in outcomes.values():
        counts[outcome.status] += 1
    lines = [", ".join(f"{number} {status}" for status, number in counts.items()) or "no trials"]
    for configuration, row in table.head(NUM_SHOWN).iterrows():
        deviation = f" ± {row['std']:.4f} over {row['count']} seeds" if row["count"] > 1 else ""
        early = "" if row["whole"] else " (ended early)"
        lines.append(
            f"  {metric} {row['mean']:.4f}{deviation}{early}  {row['values'] or f'configuration {configuration}'}"
        )
    if len(table) > NUM_SHOWN:
        lines.append(f"  … {len(table) - NUM_SHOWN} more: cnnlab compare {sweep}")
    return "\n".join(lines)


def describe_status(path: str | Path) -> str:
    """How a sweep stands: how many trials of each kind, those under way, the best so far."""
    sweep = SweepDirectory.open(path)
    plan, trials, told = sweep.read_plan(), sweep.read_trials(), sweep.read_outcomes()
    outcomes = {trial.number: sweep.find_outcome(trial, plan["metric"], told) for trial in trials}
    lines = [describe_best(sweep, trials, outcomes, plan["metric"])]
    settings = plan["settings"]
    total = max(len(trials), (settings["trials"] or 0) * settings["seeds"])
    left = total - sum(outcome.has_ended for outcome in outcomes.values())
    for trial in trials:
        if outcomes[trial.number].status in ("running", "interrupted", "killed"):
            rows = sweep.run(trial.number).read_metrics()
            lines.append(
                f"  trial {trial.number} ({' '.join(trial.values)}) {outcomes[trial.number].status}, epoch {len(rows)}"
            )
    if left:
        lines.append(f"{left} of {total} are left: cnnlab sweep resume {sweep}")
    return "\n".join(lines)


def write_best(
    sweep: SweepDirectory, trials: Sequence[Trial], outcomes: Outcomes, metric: str, typed: Sequence[str]
) -> None:
    """best.yaml: the best configuration as a file of conf/experiment, with its command line above."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from cnnlab.composition import CONF, SWEEP_KEY, list_choices  # with Hydra, which no other answer needs

    table = rank(trials, outcomes, metric)
    if not len(table):
        return
    values = next(trial.values for trial in trials if trial.configuration == table.index[0])
    keys = {text.partition("=")[0] for text in values}
    fixed = [text for text in typed if not SWEEP_KEY.match(text) and text.lstrip("+").partition("=")[0] not in keys]
    everything = [*fixed, *values]
    defaults: list[Any] = []
    tree: dict[str, Any] = {}
    for text in everything:
        override = OverridesParser.create().parse_override(text)
        key, value = override.get_key_element().lstrip("+"), override.value()
        if override.is_delete() or key.startswith("hydra"):  # which a file of conf/experiment cannot say
            continue
        if key == "experiment":
            defaults.insert(0, value)
        elif list_choices(key, [CONF]):
            defaults.append({f"override /{key}": value})
        else:
            branch = tree
            *parents, leaf = key.split(".")
            for parent in parents:
                branch = branch.setdefault(parent, {})
            branch[leaf] = value
    command = f"# cnnlab train {shlex.join(everything)}\n"
    header = f"# @package _global_\n# {metric} {table.iloc[0]['mean']:.4f}: the best of {len(table)} configurations.\n"
    contents = {**({"defaults": defaults} if defaults else {}), **tree}
    sweep.files.write_text(sweep.best, header + command + yaml.safe_dump(contents, sort_keys=False))
