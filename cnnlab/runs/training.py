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
from cnnlab.distributed import by_all, by_main, is_main, num_processes
from cnnlab.engine.checkpoint import load_checkpoint, load_newest
from cnnlab.engine.evaluate import BatchSource, Metrics, evaluate
from cnnlab.engine.loop import find_early_end, fit, restore
from cnnlab.engine.peak import measure_product_peak
from cnnlab.engine.state import State
from cnnlab.errors import CnnlabError, ConfigError, Interrupted
from cnnlab.experiment import (
    Assembly,
    Experiment,
    assemble,
    build_experiment,
    count_parameters,
    count_work,
    read_config,
    settle,
    without_weights,
)
from cnnlab.runs.classes import list_scores, score_classes
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.environment import describe_environment
from cnnlab.runs.journal import Journal, Silence
from cnnlab.runs.plots import draw_confusion, draw_curves, draw_line
from cnnlab.runs.trained import write_facts
from cnnlab.runtime import StopRequest

# What may change when a run goes on: how long and on what, never what is learned.
RESUMABLE = ("epochs=", "steps=", "examples=", "engine.")

PEAK_SECONDS = 0.3  # for measuring the machine's peak
LONG_BESIDE_PEAK = 10.0  # seconds of steps


def start(config: Config, overrides: list[str], chosen: dict[str, Any] | None = None) -> RunDirectory:
    """A new run in a directory of its own; `overrides` is what was typed.

    `chosen` is "engine" of the summary of a run that this one repeats: what "auto" became there.
    """
    assembly = by_all(lambda: assemble(config))
    run = by_main(lambda: RunDirectory.claim(config.output_dir, config.name))
    run.write_yaml(run.overrides, overrides)
    train(config, run, assembly, chosen or {})
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
    assembly = by_all(lambda: assemble(without_weights(config) if run.last.is_file() else config))
    train(config, run, assembly, by_main(lambda: run.read_json(run.summary)).get("engine") or {})
    return run


def train(config: Config, run: RunDirectory, assembly: Assembly, chosen: dict[str, Any]) -> None:
    """Read the images, restore what there is to restore, train, look at the test set once, draw the curves.

    However it ends, summary.json says so: completed, interrupted or failed, and why.
    """
    summary: dict[str, Any] = {"status": "running", "reason": None, "engine": chosen}
    with StopRequest() as stop, run.locked(), keeping_summary(run, summary):
        run.write_yaml(run.config, asdict(config))
        experiment = by_all(lambda: build_experiment(config, assembly))
        training, plan = experiment.training, experiment.plan
        write_facts(run, experiment.dataset)
        run.write_json(run.environment, describe_environment(training.device))
        summary["parameters"] = count_parameters(training.model)

        num_epochs = -(-plan.num_steps // len(training.train))
        journal = Journal(run, asdict(config), plan.num_steps, num_epochs) if is_main() else Silence()
        try:
            journal.say(describe_start(config, experiment, summary["parameters"]))
            experiment, summary["engine"], lines = settle(config, experiment, chosen)
            run.write_json(run.summary, summary)  # whoever goes on with this run repeats the choice
            for line in lines:
                journal.say(line)
            training = experiment.training
            state = restore_state(run, experiment, journal)
            state.micro_batch_size = config.engine.micro_batch_size or state.micro_batch_size
            journal.start_bar(state.step)
            first_step = state.step
            try:
                stop.wait_for_step = True
                fit(training, plan, state, journal, stop)
                stop.wait_for_step = False
            finally:
                journal.stop_bar()
                summary |= summarize(state, experiment)
            summary["speed"] = describe_speed(first_step, state.step, experiment, assembly, summary["engine"])
            summary["reason"] = find_early_end(plan, state)
            if summary["reason"]:
                journal.say(f"ended early: {summary['reason']}")
            load_chosen(run, experiment)
            test = look_at_test(experiment)
            summary["test"] = test and test.as_dict()
            show_classes(run, experiment, assembly.dataset.classes, test)
            if assembly.dataset.maps_number_to_number and is_main():
                draw_line(
                    run, training.model, {"train": experiment.train, "valid": training.valid, "test": experiment.test}
                )
            journal.say(describe_end(summary, plan.select_by))
        finally:
            journal.close()


@contextmanager
def keeping_summary(run: RunDirectory, summary: dict[str, Any]) -> Iterator[None]:
    """summary.json on the way in and, with how it went, on the way out; errors pass through.

    The last line printed names the directory, however the run went.
    """
    if not is_main():
        yield
        return
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


def restore_state(run: RunDirectory, experiment: Experiment, journal: Journal | Silence) -> State:
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
    weights = by_main(run.find_weights)
    training.model.load_state_dict(load_checkpoint(weights, training.device)["model"])


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
    if metrics is not None and metrics.confusion is not None and is_main():
        run.write_csv(run.classes, list_scores(score_classes(metrics.confusion, classes)))
        draw_confusion(run, part, metrics.confusion, classes)


def summarize(state: State, experiment: Experiment) -> dict[str, Any]:
    """The numbers of summary.json that training itself gives."""
    training = experiment.training
    parts = {"train": training.train, "valid": training.valid, "test": experiment.test}
    return {
        "best": state.best,
        "final": state.rows[-1] if state.rows else None,
        "test": None,
        "totals": {
            "steps": state.step,
            "epochs": state.step / len(training.train),
            "examples": count_examples(state.step, training.train),
            "seconds": round(state.seconds, 3),
        },
        "images": {part: batches.num_examples if batches else 0 for part, batches in parts.items()},
        "processes": num_processes(),
        "peak_memory_mb": measure_peak_memory(training.device),
    }


def count_examples(num_steps: int, train: BatchSource) -> int:
    """The images of so many steps from the beginning of a run."""
    epochs, rest = divmod(num_steps, len(train))
    return epochs * train.num_examples + rest * train.batch_size


def describe_speed(
    first_step: int, last_step: int, experiment: Experiment, assembly: Assembly, engine: dict[str, Any]
) -> dict[str, Any] | None:
    """Images and multiply-adds per second of this process's steps, and where the time of a step went.

    The machine's peak is measured for runs that are long beside the moment it takes; None without a step.
    """
    training = experiment.training
    parts = training.times.read()
    seconds, num_steps = sum(parts.values()), last_step - first_step
    if num_steps == 0:
        return None
    images_per_second = (
        count_examples(last_step, training.train) - count_examples(first_step, training.train)
    ) / seconds
    speed: dict[str, Any] = {
        "images_per_second": round(images_per_second, 1),
        "step_milliseconds": {part: round(1000 * taken / num_steps, 3) for part, taken in parts.items()},
        "multiply_adds_per_second": None,
        "share_of_peak": None,
    }
    if seconds > LONG_BESIDE_PEAK:
        # Of the backward pass each layer has two products where the forward pass has one.
        work = 3 * count_work(assembly) * images_per_second
        peak = measure_product_peak(training.device, engine["precision"], PEAK_SECONDS)
        speed |= {"multiply_adds_per_second": round(work), "share_of_peak": peak and float(f"{work / peak:.3g}")}
    return speed


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
    devices = f"{num_processes()} × {training.device}" if num_processes() > 1 else str(training.device)
    return (
        f"{config.model['name']} ({num_parameters:,} parameters) on {config.dataset['name']} "
        f"({', '.join(sizes)} images), {experiment.plan.num_steps:,} steps on {devices}, {selection}"
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
