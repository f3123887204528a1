"""The training loop: reads from top to bottom in the order in which things happen.

A step is a function of the state before it. The order of the images, their augmentation and the
dropout masks come from (seed, epoch, position), the learning rate from the step and the epochs' rows
so far; all else that the next step needs is in the checkpoint. Whoever stops the loop anywhere and
starts it again from the last checkpoint takes the same steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from cnnlab.distributed import copy_from_main, largest
from cnnlab.engine.checkpoint import put_weights
from cnnlab.engine.evaluate import NOTHING, Metrics, Sums, evaluate
from cnnlab.engine.hardest import choose_images
from cnnlab.engine.state import Row, State
from cnnlab.engine.step import Training, compute_gradients
from cnnlab.errors import CheckpointError, DivergenceError, Pruned
from cnnlab.metrics import is_higher_better
from cnnlab.stopping import StopRequest


@dataclass(frozen=True)
class Plan:
    """How long and how often, in steps."""

    num_steps: int
    log_every: int
    checkpoint_every: int
    select_by: str  # the column of the rows that is best where accuracy is high, or anything else low
    stop_by: str = "valid_loss"  # the column that has to get better by `min_delta` within `patience` epochs
    patience: int | None = None
    min_delta: float = 0.0
    max_seconds: float = math.inf  # of the run, interruptions left out


class Journal(Protocol):
    """Where the loop reports to: a run directory, or a list in a test."""

    def begin(self, state: State) -> None: ...

    def count_step(self) -> None: ...

    def say(self, text: str) -> None: ...

    def show_step(self, state: State, epoch: int, loss: float, means: dict[str, float], lr: float) -> None: ...

    def show_epoch(self, state: State) -> None: ...

    def save_best(self, contents: dict[str, Any]) -> None: ...

    def save_last(self, contents: dict[str, Any]) -> None: ...


# Asked after each whole epoch about the rows so far: why the run is not worth going on with, or None.
Judge = Callable[[Sequence[Row]], str | None]


def fit(
    training: Training, plan: Plan, state: State, journal: Journal, stop: StopRequest, judge: Judge | None = None
) -> str | None:
    """Train from `state.step` to `plan.num_steps`, changing model, optimizer and `state` in place.

    Returns why it ended earlier, where the plan's patience or time is over. Raises DivergenceError when the loss or a
    weight is no finite number, before a checkpoint can take it up, Interrupted when `stop` asks for it, after the step
    under way and a checkpoint, and so Pruned where a `judge` has a reason (which is for a single process). Of many
    processes each calls it, and all leave it at the same step.
    """
    t = training
    copy_from_main([*t.model.parameters(), *t.model.buffers()])
    steps_per_epoch = len(t.train)
    base_rates = [group["lr"] for group in t.optimizer.param_groups]
    sums = Sums(t.device, t.network.task)
    sums.set(state.totals)
    shown = state.totals  # the sums when a step was last shown
    recent: list[Tensor] = []  # losses since they were last checked, still on the device
    t.model.train()
    clock = Stopwatch(state)
    patience = Patience(plan, (row for row in state.rows if row["step"] % steps_per_epoch == 0))

    ended = find_early_end(plan, state, patience)
    if state.step < plan.num_steps and not ended:  # an epoch that the run's end had cut short goes on
        state.rows = [row for row in state.rows if row["step"] % steps_per_epoch == 0]
    journal.begin(state)
    while state.step < plan.num_steps and not ended:
        epoch, number = divmod(state.step, steps_per_epoch)
        if number == 0:
            sums.set(NOTHING)
            shown = NOTHING
            state.train_seconds = 0.0
        multiplier = t.schedule(state.step, state.rows)
        rates = [rate * multiplier for rate in base_rates]
        for group, rate in zip(t.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * math.prod(part.warm_up(state.step, group["params"][0]) for part in t.frozen)

        t.times.begin()
        images, labels = t.train.batch(epoch, number)
        t.times.end("data")
        learned, looked = choose_images(t, images, labels, state)
        learn = partial(compute_gradients, t, *learned, state)
        size = state.micro_batch_size
        outputs, loss = learn()
        if state.micro_batch_size != size:
            journal.say(f"memory ran out: batches are cut into micro-batches of {state.micro_batch_size} images")
        t.take_step(learn)
        state.step += 1
        t.average.update(state.step)
        t.times.end("optimizer")
        weight = len(labels) if looked else t.criterion.weigh(labels)
        sums.add(*(looked or (loss, outputs)), labels, weight)
        recent.append(loss.detach())
        journal.count_step()

        over = stop.agree(clock.is_over(plan.max_seconds))
        ends = over or state.step == plan.num_steps
        verdict = None
        ends_epoch = ends or state.step % steps_per_epoch == 0
        saves = ends or state.step % plan.checkpoint_every == 0 or stop.requested
        if state.step % plan.log_every == 0 or ends_epoch or saves:
            newest = require_finite_losses(recent, state.step, rates[0])
            t.times.read()
            totals = sums.read()
            journal.show_step(state, epoch + 1, newest, sums.means(totals, since=shown), rates[0])
            shown = totals
        if ends_epoch:
            clock.lap(training=True)
            with t.average.averaged():
                valid = evaluate(t.network, t.criterion, t.valid, t.metrics) if t.valid is not None else None
            clock.lap()
            # Rows, and what is decided by them, are the same in all processes.
            state.seconds, state.train_seconds = largest(state.seconds, state.train_seconds)
            row = make_row(t, state, epoch + 1, sums, valid, rates[0])
            state.rows.append(row)
            state.never_predicted = valid.find_never_predicted() if valid else []
            # An epoch that the run's end has cut short is not compared with whole ones: see `select`.
            if state.step % steps_per_epoch == 0:
                patience.see(row)
                if improves(row, state.best, plan.select_by):
                    state.best, state.best_never_predicted = row, state.never_predicted
                    with t.average.averaged():
                        journal.save_best({"model": t.model.state_dict(), "row": row})
            journal.show_epoch(state)
            ended = find_early_end(plan, state, patience)
            if judge and not ended and state.step < plan.num_steps:
                verdict = judge(state.rows)
        if saves or ended or verdict:
            clock.lap(training=True)
            state.loss_sum, state.score_sum, state.num_seen, state.weight_sum = totals
            with t.average.averaged():
                journal.save_last(take_snapshot(t, state))
            clock.lap()
        stop.check()
        if verdict:
            raise Pruned(verdict)
    return ended


def select(state: State, select_by: str) -> Row | None:
    """The row whose weights are the run's result: the best whole epoch, or the run's end inside one if that is better.

    None where nothing is selected. The weights of the end are those of the last checkpoint.
    """
    end = state.rows[-1] if state.rows else None
    if end is not None and end["step"] == state.step and improves(end, state.best, select_by):
        return end
    return state.best


def find_early_end(plan: Plan, state: State, patience: Patience) -> str | None:
    """Why a run ends before its last step; None if it goes on. The same again after a resume."""
    if state.seconds >= plan.max_seconds:
        return f"engine.max_time is over after {state.seconds:.0f} s"
    if plan.patience is not None and patience.num_stale >= plan.patience:
        return f"{plan.stop_by} did not improve for {plan.patience} epochs"
    return None


class Patience:
    """How many whole epochs have passed since the column `stop_by` last got better by more than `min_delta`."""

    def __init__(self, plan: Plan, rows: Iterable[Row]):
        self.num_stale = 0
        self._plan = plan
        self._best: Row | None = None
        for row in rows:
            self.see(row)

    def see(self, row: Row) -> None:
        self.num_stale += 1
        if improves(row, self._best, self._plan.stop_by, self._plan.min_delta):
            self._best, self.num_stale = row, 0


class Stopwatch:
    """Adds the seconds between laps to the state's: to the run's, and to the epoch's training if it was that."""

    def __init__(self, state: State):
        self._state = state
        self._mark = time.perf_counter()

    def lap(self, training: bool = False) -> None:
        now = time.perf_counter()
        self._state.seconds += now - self._mark
        if training:
            self._state.train_seconds += now - self._mark
        self._mark = now

    def is_over(self, seconds: float) -> bool:
        """Whether the run has taken this long, the lap under way included."""
        return self._state.seconds + time.perf_counter() - self._mark >= seconds


def require_finite_losses(recent: list[Tensor], step: int, lr: float) -> float:
    """The newest of the `recent` losses, the last of which is of step `step`; empties the list.

    Raises DivergenceError naming the first step whose loss is infinite or no number. Waits for the device.
    """
    values = torch.stack(recent).tolist()
    recent.clear()
    for back, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss is {value} at step {step - back}, learning rate {lr:g}; "
                "a smaller optimizer.lr may help. Checkpoints from before are kept"
            )
    return values[-1]


def make_row(t: Training, state: State, epoch: int, sums: Sums, valid: Metrics | None, lr: float) -> Row:
    """A row of metrics.csv: the epoch's training as it went, and the validation after it (empty without)."""
    totals = sums.read()
    train, (_, _, num_seen, _) = sums.means(totals), totals
    task = t.network.task
    return {
        "epoch": epoch,
        "step": state.step,
        **{f"train_{name}": value for name, value in train.items()},
        **{f"valid_{name}": valid[name] if valid else None for name in (*task.metrics, *t.metrics)},
        "lr": lr,
        "seconds": round(state.seconds, 3),
        "images_per_second": round(num_seen / max(state.train_seconds, 1e-9), 1),
    }


def improves(row: Row, best: Row | None, column: str, min_delta: float = 0.0) -> bool:
    """Whether `row` beats `best` by more than `min_delta`; equal is not better, so the earliest of equals stays.

    What is no number beats nothing but the lack of any row, and is beaten by every number.
    """
    if row[column] is None:
        return False
    if best is None or math.isnan(best[column]):
        return best is None or not math.isnan(row[column])
    if is_higher_better(column):
        return row[column] > best[column] + min_delta
    return row[column] < best[column] - min_delta


def take_snapshot(training: Training, state: State) -> dict[str, Any]:
    """Everything the next step needs. Raises DivergenceError rather than keep weights that are no numbers.

    Called inside `average.averaged()`: under "model" are the weights that are evaluated.
    """
    weights = training.model.state_dict()
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DivergenceError(
                f"'{name}' holds values that are no finite numbers after step {state.step}; "
                "a smaller optimizer.lr may help. Checkpoints from before are kept"
            )
    snapshot = {
        "model": weights,
        "optimizer": training.optimizer.state_dict(),
        "average": training.average.state_dict(),
        "state": state.as_dict(),
    }
    if training.scaler is not None:
        snapshot["scaler"] = training.scaler.state_dict()
    return snapshot


def restore(training: Training, path: Path, snapshot: dict[str, Any], rows: list[Row]) -> State:
    """Put a snapshot back into the model and the optimizer; returns the state that goes with them.

    `path` is where it comes from, `rows` are those of metrics.csv. Raises CheckpointError if it does not fit.
    """
    rates = [group["lr"] for group in training.optimizer.param_groups]
    put_weights(training.model, path, snapshot)
    try:
        # After the model: what averages sets its weights too.
        training.optimizer.load_state_dict(snapshot["optimizer"])
        training.average.load_state_dict(snapshot["average"])
        if training.scaler is not None and "scaler" in snapshot:
            training.scaler.load_state_dict(snapshot["scaler"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:  # as torch finds it
        raise CheckpointError(
            f"{path}: what it holds of the optimizer, or of an average, does not fit this run ({error}); expected the "
            "file as training left it"
        ) from error
    # What was saved is the rate of that step; the schedule multiplies the configured one.
    for group, rate in zip(training.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    return State.from_dict(snapshot["state"], rows)
