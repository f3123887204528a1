"""One configuration carried out in one run directory: new, resumed, or repeated."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cnnlab.config import Config, apply_overrides
from cnnlab.engine.checkpoint import load_checkpoint, load_newest
from cnnlab.engine.evaluate import Metrics, evaluate
from cnnlab.engine.loop import find_early_end, fit, restore
from cnnlab.engine.state import State
from cnnlab.errors import CnnlabError, ConfigError, Interrupted
from cnnlab.experiment import (
    Assembly,
    Experiment,
    assemble,
    build_experiment,
    count_parameters,
    read_config,
    without_weights,
)
from cnnlab.runs.classes import score_classes, write_csv
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.environment import describe_environment
from cnnlab.runs.journal import Journal
from cnnlab.runs.plots import draw_confusion, draw_curves, draw_line
from cnnlab.runs.trained import write_facts
from cnnlab.runtime import StopRequest

# What may change when a run goes on: how long and on what, never what is learned.
RESUMABLE = ("epochs=", "steps=", "examples=", "engine.")


def start(config: Config, overrides: list[str]) -> RunDirectory:
    """A new run in a directory of its own; `overrides` is what was typed."""
    assembly = assemble(config)
    run = RunDirectory.claim(config.output_dir, config.name)
    run.write_yaml(run.overrides, overrides)
    train(config, run, assembly)
    return run


def resume(path: str, overrides: list[str]) -> RunDirectory:
    """Go on with a run from its last whole checkpoint, or from its beginning if it has none yet.

    Raises ConfigError for overrides that would make another experiment of it.
    """
    run = RunDirectory.open(path)
    foreign = [text for text in overrides if not text.startswith(RESUMABLE) or text.startswith("engine.overfit=")]
    if foreign:
        allowed = "epochs, steps, examples and engine.*"
        raise ConfigError([f"{text}: cannot change within a run; expected {allowed}" for text in foreign])
    config = read_config(apply_overrides(run.read_config(), overrides))
    assembly = assemble(without_weights(config) if run.last.is_file() else config)
    train(config, run, assembly)
    return run


def train(config: Config, run: RunDirectory, assembly: Assembly) -> None:
    """Read the images, restore what there is to restore, train, look at the test set once, draw the curves.

    However it ends, summary.json says so: completed, interrupted or failed, and why.
    """
    summary: dict[str, Any] = {"status": "running", "reason": None}
    with StopRequest() as stop, run.locked(), keeping_summary(run, summary):
        run.write_yaml(run.config, asdict(config))
        experiment = build_experiment(config, assembly)
        training, plan = experiment.training, experiment.plan
        write_facts(run, experiment.dataset)
        run.write_json(run.environment, describe_environment(training.device))
        summary["parameters"] = count_parameters(training.model)

        num_epochs = -(-plan.num_steps // len(training.train))
        journal = Journal(run, asdict(config), plan.num_steps, num_epochs)
        try:
            journal.say(describe_start(config, experiment, summary["parameters"]))
            state = restore_state(run, experiment, journal)
            state.micro_batch_size = config.engine.micro_batch_size or state.micro_batch_size
            journal.start_bar(state.step)
            try:
                stop.wait_for_step = True
                fit(training, plan, state, journal, stop)
                stop.wait_for_step = False
            finally:
                journal.stop_bar()
                summary |= summarize(state, experiment)
            summary["reason"] = find_early_end(plan, state)
            if summary["reason"]:
                journal.say(f"ended early: {summary['reason']}")
            load_chosen(run, experiment)
            test = look_at_test(experiment)
            summary["test"] = test and test.as_dict()
            show_classes(run, experiment, assembly.dataset.classes, test)
            if assembly.dataset.maps_number_to_number:
                draw_line(
                    run, training.model, {"train": training.train, "valid": training.valid, "test": experiment.test}
                )
            journal.say(describe_end(summary, plan.select_by))
        finally:
            journal.close()


@contextmanager
def keeping_summary(run: RunDirectory, summary: dict[str, Any]) -> Iterator[None]:
    """summary.json on the way in and, with how it went, on the way out; errors pass through.

    The last line printed names the directory, however the run went.
    """
    run.write_json(run.summary, summary)
    try:
        yield
        summary["status"] = "completed"
    except (Interrupted, KeyboardInterrupt) as error:
        summary |= {"status": "interrupted", "reason": str(error)}
        print(f"stopped; go on with: cnnlab resume {run}")
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, CnnlabError) else f"{type(error).__name__}: {error}"
        summary |= {"status": "failed", "reason": reason}
        raise
    finally:
        run.write_json(run.summary, summary)
        try:
            draw_curves(run)
        except OSError as error:  # a picture is no reason to fail
            print(f"{run.curves}: cannot be written ({error})", file=sys.stderr)
        print(f"run directory: {run}", flush=True)


def restore_state(run: RunDirectory, experiment: Experiment, journal: Journal) -> State:
    """Put the newest whole checkpoint back; a fresh state where there is none."""
    snapshot, problems = load_newest([run.last, run.previous], experiment.training.device)
    for problem in problems:
        journal.say(f"{problem}; the checkpoint before it is used")
    if snapshot is None:
        return State()
    state = restore(experiment.training, snapshot)
    run.write_metrics(state.rows)  # rows behind the checkpoint are of steps that will be taken again
    journal.say(f"resumed at step {state.step} of {experiment.plan.num_steps}")
    return state


def load_chosen(run: RunDirectory, experiment: Experiment) -> None:
    """The weights that validation chose (the last without validation) into the network."""
    training = experiment.training
    training.model.load_state_dict(load_checkpoint(run.find_weights(), training.device)["model"])


def look_at_test(experiment: Experiment) -> Metrics | None:
    """The one look at the test set."""
    training = experiment.training
    if experiment.test is None:
        return None
    return evaluate(training.model, training.loss, experiment.test, training.task, training.autocast)


def show_classes(run: RunDirectory, experiment: Experiment, classes: Sequence[str], test: Metrics | None) -> None:
    """classes.csv and plots/confusion.png of the test images, or the validation images where there are no others."""
    training = experiment.training
    part, metrics = "test", test
    if metrics is None and training.valid is not None:
        part = "validation"
        metrics = evaluate(training.model, training.loss, training.valid, training.task, training.autocast)
    if metrics is not None and metrics.confusion is not None:
        run.write_text(run.classes, write_csv(score_classes(metrics.confusion, classes)))
        draw_confusion(run, part, metrics.confusion, classes)


def summarize(state: State, experiment: Experiment) -> dict[str, Any]:
    """The numbers of summary.json that training itself gives."""
    training = experiment.training
    parts = {"train": training.train, "valid": training.valid, "test": experiment.test}
    epochs, rest = divmod(state.step, len(training.train))
    num_trained = epochs * training.train.num_examples + rest * training.train.batch_size
    return {
        "best": state.best,
        "final": state.rows[-1] if state.rows else None,
        "test": None,
        "totals": {
            "steps": state.step,
            "epochs": state.step / len(training.train),
            "examples": num_trained,
            "seconds": round(state.seconds, 3),
        },
        "images": {part: batches.num_examples if batches else 0 for part, batches in parts.items()},
        "peak_memory_mb": measure_peak_memory(training.device),
    }


def measure_peak_memory(device: torch.device) -> dict[str, float | None]:
    """The most memory that has been held, in MB (10⁶ bytes): by this process, and on the accelerator."""
    on_device = round(torch.cuda.max_memory_allocated(device) / 1e6, 1) if device.type == "cuda" else None
    return {"process": peak_process_memory(), "device": on_device}


def peak_process_memory() -> float | None:
    """In MB; None on systems that do not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its getrusage counts the process that started this one as well
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def describe_start(config: Config, experiment: Experiment, num_parameters: int) -> str:
    training = experiment.training
    sizes = [f"{training.train.num_examples:,} train"]
    sizes += [f"{b.num_examples:,} {part}" for part, b in (("valid", training.valid), ("test", experiment.test)) if b]
    selection = f"the best epoch by {experiment.plan.select_by}" if training.valid else "the last checkpoint is used"
    return (
        f"{config.model['name']} ({num_parameters:,} parameters) on {config.dataset['name']} "
        f"({', '.join(sizes)} images), {experiment.plan.num_steps:,} steps on {training.device}, {selection}"
    )


def describe_end(summary: dict[str, Any], select_by: str) -> str:
    parts = []
    if summary["best"]:
        best = summary["best"]
        parts.append(f"best epoch {best['epoch']}: {select_by.replace('_', ' ')} {best[select_by]:.4f}")
    if summary["test"]:
        metrics = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in summary["test"].items()]
        parts.append("test " + ", ".join(metrics))
    parts.append(f"{summary['totals']['seconds']:.1f} s")
    return " | ".join(parts)
