"""One configuration carried out in one run directory: from its beginning, or from its last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from torch import nn

from cnnlab.config import Config
from cnnlab.data.repeats import find_repeats
from cnnlab.distributed import by_main, is_main, num_processes
from cnnlab.engine.autotune import Tuning, tune
from cnnlab.engine.checkpoint import load_checkpoint, load_newest, put_weights, require_run
from cnnlab.engine.compute import PLAIN, Compute
from cnnlab.engine.evaluate import evaluate
from cnnlab.engine.loop import Judge, fit, restore, select
from cnnlab.engine.state import State
from cnnlab.engine.views import Views
from cnnlab.errors import CheckpointError, ConfigError, DataError
from cnnlab.experiment.network import count_learning
from cnnlab.experiment.training import Experiment
from cnnlab.runs.classes import list_scores, score_classes
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.environment import describe_environment
from cnnlab.runs.feed import Feed
from cnnlab.runs.journal import Journal
from cnnlab.runs.outcome import explain_never_predicted, explain_outcome, warn_of_random_features
from cnnlab.runs.pictures import Evaluated, draw_pictures
from cnnlab.runs.summary import Summary, describe_speed, summarize
from cnnlab.runs.trained import find_changed, write_facts
from cnnlab.signature import as_yaml
from cnnlab.stopping import StopRequest
from cnnlab.threads import unchanged_threads


def train(
    config: Config,
    run: RunDirectory,
    experiment: Experiment,
    decided: Compute,
    stop: StopRequest,
    judge: Judge | None = None,
) -> None:
    """Restore what there is to restore, train, evaluate on the test images once, draw pictures.

    `decided` is what "auto" became before, as far as that is known; a `judge` may end the run early.
    However it ends, summary.json says so; until it takes its first step nothing else in the directory is changed but
    the log.
    """
    with unchanged_threads(), run.locked(), Feed(run, config) as feed, Summary(run) as summary:
        plan, num_epochs = experiment.plan, -(-experiment.plan.num_steps // len(experiment.training.train))
        origin = {"run": run.read_id(), "config": as_yaml(config)}
        journal = Journal(run, origin, plan.num_steps, num_epochs, speaks=is_main(), feed=feed)
        evaluated = None
        try:
            journal.say(describe_start(config, experiment))
            say_if_any(journal, warn_of_random_features(config))
            for line in (*explain_freezing(experiment), *tell_repeats(experiment)):
                journal.say(line)
            fingerprints = experiment.fingerprints()
            require_same_images(run, fingerprints)
            tuning = tune_training(config, experiment, decided, journal)
            experiment = experiment.computed_as(tuning.compute)
            state = restore_state(run, experiment, journal)
            state.micro_batch_size = config.engine.micro_batch_size or state.micro_batch_size
            timings = tuning.timings or summary.facts.get("compute", {}).get("timings", {})
            summary.begin(
                compute={**asdict(tuning.compute), "timings": timings},
                parameters=count_learning(experiment.training.model),
                select_by=plan.select_by,
            )
            write_beginning(run, config, experiment, fingerprints)
            feed.begin(state.rows)
            fit_and_select(experiment, state, journal, stop, summary, judge)
            evaluated = evaluate_chosen(run, experiment, state, summary, config.engine.tta)
            journal.say(describe_end(summary, plan.select_by))
            never_predicted = find_never_predicted(experiment, state, evaluated)
            say_if_any(journal, explain_never_predicted(config, experiment.facts.task, never_predicted))
            if evaluated is not None:
                told = explain_outcome(
                    config, experiment.training.model, evaluated.part_name, evaluated.metrics, state.rows[-1]
                )
                say_if_any(journal, told)
        finally:
            journal.close()
            if is_main() and config.plots == "on":
                draw_pictures(run, (summary.facts.get("best") or {}).get("epoch"), experiment, evaluated)


def tune_training(config: Config, experiment: Experiment, decided: Compute, journal: Journal) -> Tuning:
    """How to compute: as the configuration says, and where that says "auto" as was decided before, or measured."""
    wanted = config.compute.fill(decided)
    tuning = tune(experiment.training, wanted, experiment.plan.num_steps, config.engine.micro_batch_size, journal.say)
    for warning in tuning.warnings:
        journal.say(warning)
    if tuning.timings or replace(tuning.compute, threads=None) != PLAIN:
        timed = "; ".join(f"{name}: {speed:,.0f}" for name, speed in tuning.timings.items())
        measured = f" (images/s by measurement: {timed})" if timed else ""
        journal.say(f"computing in {tuning.compute}{measured}")
    return tuning


def restore_state(run: RunDirectory, experiment: Experiment, journal: Journal) -> State:
    """Put the newest whole checkpoint back; a fresh state where there is none.

    Raises ConfigError if it lies after the end of the run as it is configured now, CheckpointError if metrics.csv
    does not tell of all epochs before it.
    """
    training, num_steps = experiment.training, experiment.plan.num_steps
    snapshot, problems = load_newest([run.last, run.previous], training.device, run.read_id())
    for problem in problems:
        journal.say(f"{problem}; the checkpoint before it is used")
    if snapshot is None:
        return State()
    rows = by_main(run.read_metrics)
    taken, num_rows = snapshot["state"]["step"], snapshot["state"]["num_rows"]
    if taken > num_steps:
        raise ConfigError(
            f"epochs, steps, examples: {num_steps:,} steps were asked for, and {run} has taken {taken:,}; expected at "
            "least as many"
        )
    if len(rows) < num_rows:
        raise CheckpointError(
            f"{run.metrics}: has {len(rows)} epochs, and the checkpoint was written after {num_rows}; expected "
            "the file as training left it"
        )
    if num_rows and rows[num_rows - 1] != snapshot["state"].get("last_row"):
        raise CheckpointError(
            f"{run.metrics}: epoch {num_rows} differs from the checkpoint; expected the file as training left it"
        )
    state = restore(training, run.last, snapshot, rows)
    journal.say(f"resumed at step {state.step} of {num_steps}")
    return state


def require_same_images(run: RunDirectory, fingerprints: Mapping[str, str]) -> None:
    """Raises DataError if a run that has begun is to go on with other images, or another split of them.

    Images to test on, or to select by, may have been trained on otherwise.
    """
    changed = find_changed(run, fingerprints)
    if changed and (run.last.exists() or run.previous.exists()):
        raise DataError(
            f"{run}: began with other images or labels, or another split of them: {', '.join(changed)}; expected the "
            "data as they were then. To train on these, start a new run"
        )


def write_beginning(run: RunDirectory, config: Config, experiment: Experiment, fingerprints: Mapping[str, str]) -> None:
    """What is known of a run when it takes its first step."""
    run.write_yaml(run.config, as_yaml(config))
    write_facts(run, experiment.facts, fingerprints)
    run.write_json(run.environment, describe_environment(experiment.training.device))


def fit_and_select(
    experiment: Experiment,
    state: State,
    journal: Journal,
    stop: StopRequest,
    summary: Summary,
    judge: Judge | None = None,
) -> None:
    """Train to the end; the numbers of summary.json, however it ends, and which checkpoint is the run's result."""
    first_step, plan = state.step, experiment.plan
    journal.start_bar(state.step)
    try:
        with stop.deferred():
            ended = fit(experiment.training, plan, state, journal, stop, judge)
    finally:
        journal.stop_bar()
        summary.update_numbers(**summarize(state, experiment))
    summary.update(reason=ended, speed=describe_speed(first_step, state.step, experiment))
    if ended:
        journal.say(f"ended early: {ended}")
    row = select(state, plan.select_by)
    summary.update(chosen="best.pt" if row is not None and row is state.best else "last.pt")


def evaluate_chosen(
    run: RunDirectory, experiment: Experiment, state: State, summary: Summary, tta: Views
) -> Evaluated | None:
    """The one evaluation on the test images, by the weights that were chosen; scores class by class.

    Returns it, or one on the validation images where there are no others.
    """
    training = experiment.training
    path = run.last.with_name(summary.facts["chosen"])
    chosen = load_checkpoint(path, training.device)
    if "row" in chosen and chosen["row"] != state.best:
        raise CheckpointError(
            f"{run.best}: holds the weights of epoch {chosen['row']['epoch']}, and those of epoch "
            f"{state.best and state.best['epoch']} were chosen; expected the file as training left it"
        )
    require_run(path, chosen, run.read_id())
    put_weights(training.model, path, chosen)
    part, batches = ("valid", training.valid) if experiment.test is None else ("test", experiment.test)
    if batches is None:
        summary.update(test=None)
        return None
    views = tta if part == "test" else "none"
    begin = time.perf_counter()
    metrics = evaluate(
        training.network, training.criterion, batches, training.metrics, views=views, keep_predictions=True
    )
    evaluated = Evaluated(part, metrics)
    if part == "test":
        summary.update(test=dict(metrics.values), test_seconds=round(time.perf_counter() - begin, 3))
    else:
        summary.update(test=None)
    if metrics.hits is not None:
        run.write_csv(run.classes, list_scores(score_classes(metrics.hits, experiment.facts.classes)))
    return evaluated


def find_never_predicted(experiment: Experiment, state: State, evaluated: Evaluated | None) -> dict[str, list[str]]:
    """The classes that the weights which were chosen never predict, by the name of the part: of validation, of test."""
    is_best = select(state, experiment.plan.select_by) is state.best
    found = {"validation": state.best_never_predicted if is_best else state.never_predicted}
    if evaluated is not None:
        found[evaluated.part_name] = evaluated.metrics.find_never_predicted()
    return {part: [experiment.facts.classes[number] for number in numbers] for part, numbers in found.items()}


# --- What is said -------------------------------------------------------------------------------------


def say_if_any(journal: Journal, text: str | None) -> None:
    if text is not None:
        journal.say(text)


def tell_repeats(experiment: Experiment) -> list[str]:
    """What would spoil training: pictures under two labels, or in two parts."""
    parts, facts = experiment.parts, experiment.facts
    if not facts.task.has_classes or any(batches.images.files is None for batches in parts.values()):
        return []
    return find_repeats(parts, facts.classes)


def explain_freezing(experiment: Experiment) -> list[str]:
    """What was to freeze, or to learn, after longer than the run takes."""
    frozen, num_steps = experiment.training.frozen, experiment.plan.num_steps
    found = []
    since = sorted({part.since for part in frozen if part.since >= num_steps})
    if since:
        steps = " and ".join(f"{step:,}" for step in since)
        found.append(
            f"model.freeze_after: {steps} steps are not less than the run's {num_steps:,}: what was to freeze then "
            "learns to the end"
        )
    for part in frozen:
        if num_steps <= part.until < math.inf:
            found.append(
                f"model.unfreeze_after: {part.until:,} steps are not less than the run's {num_steps:,}: what is frozen "
                "never learns"
            )
    return found


def describe_start(config: Config, experiment: Experiment) -> str:
    training = experiment.training
    sizes = [f"{training.train.num_examples:,} train"]
    sizes += [f"{b.num_examples:,} {part}" for part, b in (("valid", training.valid), ("test", experiment.test)) if b]
    selection = f"the best epoch by {experiment.plan.select_by}" if training.valid else "the last checkpoint is used"
    devices = f"{num_processes()} × {training.device}" if num_processes() > 1 else str(training.device)
    return (
        f"{describe_network(config, training.model)} on {config.dataset.name} "
        f"({', '.join(sizes)} images), {experiment.plan.num_steps:,} steps on {devices}, {selection}"
    )


def describe_network(config: Config, model: nn.Module) -> str:
    """What it is called, the architecture in a library too, and how many parameters it has; those that will learn."""
    name = " ".join(
        [config.model.name, *([config.model.arguments["arch"]] if "arch" in config.model.arguments else [])]
    )
    num_all, num_learning = sum(p.numel() for p in model.parameters()), count_learning(model)
    learning = "" if num_learning == num_all else f", {num_learning:,} of them learning"
    return f"{name} ({num_all:,} parameters{learning})"


def describe_end(summary: Summary, select_by: str) -> str:
    facts, parts = summary.facts, []
    if facts["best"]:
        best = facts["best"]
        parts.append(f"best epoch {best['epoch']}: {select_by.replace('_', ' ')} {best[select_by]:.4f}")
    if facts["test"]:
        metrics = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in facts["test"].items()]
        parts.append("test " + ", ".join(metrics))
    parts.append(f"{facts['totals']['seconds']:.1f} s")
    return " | ".join(parts)
