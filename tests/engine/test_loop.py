"""The loop beside a slow one written out by hand, and what it refuses."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlab.data.batches import Batches
from cnnlab.data.dataset import ImageSet
from cnnlab.engine.evaluate import evaluate
from cnnlab.engine.loop import Patience, Plan, find_early_end, fit, improves, select
from cnnlab.engine.network import Network
from cnnlab.engine.state import State
from cnnlab.engine.step import Training
from cnnlab.errors import DivergenceError, Interrupted
from cnnlab.optim.averages import PlainWeights
from cnnlab.optim.losses import Criterion
from cnnlab.optim.stepping import plain_step
from cnnlab.stopping import StopRequest

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.randn(50, 3, 4, 4, generator=GENERATOR), torch.arange(50) % 5
CPU = torch.device("cpu")
CROSS_ENTROPY = Criterion(F.cross_entropy)


class Source:
    """50 images in order, in batches of 8: the last one has 2."""

    num_examples, batch_size = 50, 8

    def __init__(self, images: torch.Tensor = IMAGES):
        self.images = images

    def __len__(self) -> int:
        return 7

    def batch(self, epoch: int, number: int):
        chosen = slice(number * 8, number * 8 + 8)
        return self.images[chosen], LABELS[chosen]


class Recorder:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.means: list[dict[str, float]] = []
        self.said: list[str] = []
        self.saved: list[dict] = []
        self.best: list[dict] = []

    def begin(self, state):
        self.begun = [dict(row) for row in state.rows]

    def count_step(self):
        pass

    def say(self, text):
        self.said.append(text)

    def show_step(self, state, epoch, loss, means, lr):
        self.steps.append(state.step)
        self.losses.append(loss)
        self.means.append(means)

    def show_epoch(self, state):
        pass

    def save_best(self, contents):
        self.best.append({key: value.clone() for key, value in contents["model"].items()})

    def save_last(self, contents):
        self.saved.append({"step": contents["state"]["step"]})


def make(images: torch.Tensor = IMAGES, valid: Source | None = None, schedule=lambda step, rows: 1.0) -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Training(
        network=Network(model, CPU),
        criterion=CROSS_ENTROPY,
        optimizer=optimizer,
        plain_step=plain_step(optimizer),
        schedule=schedule,
        average=PlainWeights(optimizer),
        train=Source(images),
        valid=valid,
        seed=0,
    )


def with_model(training: Training, model: nn.Module) -> Training:
    return replace(training, network=replace(training.network, model=model))


def run(training: Training, num_steps: int, **plan) -> tuple[State, Recorder]:
    state, journal = State(), Recorder()
    settings = {"log_every": 5, "checkpoint_every": 6, "select_by": "valid_accuracy"} | plan
    fit(training, Plan(num_steps, **settings), state, journal, StopRequest())
    return state, journal


def test_the_loop_equals_one_written_out():
    training = make(schedule=lambda step, rows: 1 / (1 + step))
    state, _ = run(training, 10)

    expected = make().model
    losses, num_correct = [], 0
    for step in range(10):
        images, labels = Source().batch(0, step % 7)
        outputs = expected(images)
        loss = F.cross_entropy(outputs, labels)
        expected.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in expected.parameters():
                p -= 0.1 / (1 + step) * p.grad
        if step < 7:
            losses.append(loss.item() * len(labels))
            num_correct += int((outputs.argmax(1) == labels).sum())
    for got, wanted in zip(training.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, wanted)
    first, second = state.rows
    assert first["train_loss"] == pytest.approx(sum(losses) / 50)  # the last batch of 2 counts as 2
    assert first["train_accuracy"] == num_correct / 50
    assert (first["epoch"], first["step"], second["epoch"], second["step"]) == (1, 7, 2, 10)
    assert second["lr"] == pytest.approx(0.1 / 10)


def test_a_logged_step_has_the_means_since_the_one_before():
    _, each = run(make(), 10, log_every=1)
    _, some = run(make(), 10, log_every=4, checkpoint_every=100)
    assert some.steps == [4, 7, 8, 10] and some.losses == pytest.approx([each.losses[step - 1] for step in some.steps])
    # Steps 1–4, 5–7 (of which the last has 2 images), 8, 9–10; each mean is over images.
    sizes = [8, 8, 8, 8, 8, 8, 2, 8, 8, 8]
    for name in ("loss", "accuracy"):
        totals = [size * means[name] for size, means in zip(sizes, each.means, strict=True)]
        expected = [sum(totals[a:b]) / sum(sizes[a:b]) for a, b in ((0, 4), (4, 7), (7, 8), (8, 10))]
        assert [means[name] for means in some.means] == pytest.approx(expected)


def test_logs_epochs_ends_and_checkpoints_come_when_they_are_due():
    _, journal = run(make(), 16, log_every=5, checkpoint_every=6)
    assert journal.steps == [5, 6, 7, 10, 12, 14, 15, 16]
    assert [saved["step"] for saved in journal.saved] == [6, 12, 16]


def test_a_loss_that_is_no_number_names_its_step_and_rate_and_is_not_saved():
    poisoned = IMAGES.clone()
    poisoned[20] = float("nan")  # in the third batch
    journal = Recorder()
    with pytest.raises(DivergenceError, match=r"nan at step 3, learning rate 0.1"):
        fit(make(poisoned), Plan(14, 5, 2, "valid_accuracy"), State(), journal, StopRequest())
    assert [saved["step"] for saved in journal.saved] == [2]


def test_weights_that_are_no_numbers_are_not_saved():
    journal = Recorder()
    training, state = make(), State()

    def overflow(learn) -> None:
        training.take_step(learn)
        if state.step == 2:  # inside the third step
            training.model[1].bias.data[0] = float("inf")

    with pytest.raises(DivergenceError, match="'1.bias' holds .* after step 3"):
        fit(replace(training, plain_step=overflow), Plan(14, 1, 1, "valid_accuracy"), state, journal, StopRequest())
    assert [saved["step"] for saved in journal.saved] == [1, 2]


def test_best_is_chosen_on_validation_data_and_the_earliest_of_equals_stays():
    training = make(valid=Source())
    state, journal = run(training, 21)
    accuracies = [row["valid_accuracy"] for row in state.rows]
    assert state.best == state.rows[accuracies.index(max(accuracies))]
    training.model.load_state_dict(journal.best[-1])
    assert evaluate(training.network, CROSS_ENTROPY, Source())["accuracy"] == max(accuracies)


@pytest.mark.parametrize(
    ("select_by", "new", "old", "better"),
    [
        ("valid_accuracy", 0.8, 0.7, True),
        ("valid_accuracy", 0.7, 0.7, False),
        ("valid_loss", 0.8, 0.7, False),
        ("valid_loss", 0.6, 0.7, True),
        ("valid_loss", None, None, False),
        ("valid_loss", 0.7, math.nan, True),
        ("valid_loss", math.nan, 0.7, False),
        ("valid_accuracy", math.nan, math.nan, False),
    ],
)
def test_improves(select_by, new, old, better):
    assert improves({select_by: new}, None if old is None else {select_by: old}, select_by) is better


def test_rows_without_an_improvement_are_counted_from_the_last_one():
    def stale(losses, min_delta=0.0, column="valid_loss"):
        plan = Plan(1, 1, 1, "valid_accuracy", stop_by=column, min_delta=min_delta)
        return Patience(plan, [{column: loss} for loss in losses]).num_stale

    assert stale([]) == 0
    assert stale([3.0, 2.0, 1.0]) == 0
    assert stale([3.0, 2.0, 2.0, 2.5]) == 2
    assert stale([3.0, 2.0, 2.5, 1.9, 2.0]) == 1
    assert stale([3.0, 2.95, 2.91, 2.89], min_delta=0.1) == 0  # slowly, but 0.11 below the best that counted
    assert stale([3.0, 2.95, 2.91], min_delta=0.1) == 2
    assert stale([0.5, 0.6, 0.6], column="valid_accuracy") == 1


def test_patience_ends_a_run_with_a_checkpoint_and_so_again_after_a_resume():
    training = make(valid=Source(), schedule=lambda step, rows: 1.0 if step < 14 else 0.0)  # two epochs of learning
    plan = {"stop_by": "valid_loss", "patience": 3, "checkpoint_every": 1000}
    state, journal = run(training, 700, **plan)
    assert (state.step, len(state.rows), journal.saved) == (35, 5, [{"step": 35}])
    again = Recorder()
    fit(training, Plan(700, 5, 1000, "valid_accuracy", "valid_loss", 3), state, again, StopRequest())
    assert state.step == 35 and again.saved == []
    patient = Plan(700, 5, 1000, "valid_accuracy", "valid_loss", 4)
    watch = Patience(patient, state.rows)
    assert watch.num_stale == 3 and find_early_end(patient, state, watch) is None
    assert "valid_loss did not improve for 3 epochs" in find_early_end(replace(patient, patience=3), state, watch)


def test_a_time_budget_ends_a_run_in_the_middle_of_an_epoch_with_a_row_and_a_checkpoint():
    training, state = make(valid=Source()), State(seconds=100.0)
    take_step = training.plain_step

    def step_slowly(learn):
        take_step(learn)
        if state.step == 9:  # inside the tenth step
            time.sleep(0.2)

    journal = Recorder()
    plan = Plan(70, 5, 1000, "valid_accuracy", max_seconds=100.2)
    ended = fit(replace(training, plain_step=step_slowly), plan, state, journal, StopRequest())
    assert state.step == 10 and journal.saved == [{"step": 10}]
    assert [(row["epoch"], row["step"]) for row in state.rows] == [(1, 7), (2, 10)]
    assert ended == "engine.max_time is over after 100 s"
    long, _ = run(make(valid=Source()), 14)
    fit(training, Plan(14, 5, 1000, "valid_accuracy"), state, journal, StopRequest())  # prolonged
    numbers = ("epoch", "step", "train_loss", "train_accuracy", "valid_loss", "lr")
    assert [[row[n] for n in numbers] for row in state.rows] == [[row[n] for n in numbers] for row in long.rows]


def test_the_loop_is_handed_no_test_data():
    """There is nothing that could be selected or stopped on but training and validation data."""
    sources = {name for name, field in Training.__dataclass_fields__.items() if "BatchSource" in field.type}
    assert sources == {"train", "valid"}


def test_a_stop_request_finishes_the_step_and_saves():
    stop, journal, state = StopRequest(), Recorder(), State()
    training = make()
    take_step = training.plain_step

    def step_and_ask(learn):
        take_step(learn)
        if state.step == 3:  # inside the fourth step
            stop._note(2, None)

    with pytest.raises(Interrupted), stop.deferred():
        fit(replace(training, plain_step=step_and_ask), Plan(14, 5, 7, "valid_accuracy"), state, journal, stop)
    assert state.step == 4 and journal.saved == [{"step": 4}]


def test_evaluate_counts_every_image_once_and_puts_the_mode_back():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5)).train()
    metrics = evaluate(Network(model, CPU), CROSS_ENTROPY, Source())
    assert model.training
    model.eval()
    outputs = model(IMAGES)
    assert metrics["loss"] == pytest.approx(F.cross_entropy(outputs, LABELS).item(), rel=1e-6)
    assert metrics["accuracy"] == int((outputs.argmax(1) == LABELS).sum()) / 50


def test_a_request_after_the_last_step_is_acted_on_when_the_loop_has_ended():
    """In the last validation, say: whoever calls the loop several times would else begin the next run."""
    stop, journal, state = StopRequest(), Recorder(), State()
    journal.show_epoch = lambda state: stop._note(15, None)
    with pytest.raises(Interrupted, match="SIGTERM"), stop.deferred():
        fit(make(valid=Source()), Plan(7, 5, 7, "valid_accuracy"), state, journal, stop)
    assert state.step == 7 and journal.saved == [{"step": 7}]


def test_an_epoch_cut_short_is_no_epoch_once_the_run_goes_on():
    """Neither for patience, nor as the best one: 30 steps and then 49 are what 49 steps are."""
    schedule = lambda step, rows: 1.0 if step < 14 else 0.0  # noqa: E731
    plan = {"stop_by": "valid_loss", "patience": 3, "select_by": "valid_loss", "checkpoint_every": 1000}
    short = make(valid=Source(), schedule=schedule)
    state, journal = run(short, 17, **plan)
    assert [row["step"] for row in state.rows] == [7, 14, 17] and state.best["step"] == 14
    fit(short, Plan(700, log_every=5, **plan), state, journal, StopRequest())
    assert [row["step"] for row in journal.begun] == [7, 14]
    whole, _ = run(make(valid=Source(), schedule=schedule), 700, **plan)
    assert [row["step"] for row in state.rows] == [row["step"] for row in whole.rows] == [7, 14, 21, 28, 35]
    assert state.best["step"] == whole.best["step"]


def test_the_end_inside_an_epoch_is_selected_if_it_is_best():
    rows = [{"step": 7, "valid_loss": 1.0}, {"step": 9, "valid_loss": 0.5}]
    assert select(State(step=9, rows=rows, best=rows[0]), "valid_loss") is rows[1]
    assert select(State(step=9, rows=[rows[0], {"step": 9, "valid_loss": 1.5}], best=rows[0]), "valid_loss") is rows[0]
    assert select(State(step=11, rows=rows, best=rows[0]), "valid_loss") is rows[0]
    assert select(State(step=9, rows=[{"step": 9, "valid_loss": None}]), "valid_loss") is None


@pytest.mark.parametrize("size", [1, 7, 10, 50])
def test_a_weighted_loss_is_the_mean_over_all_images_however_they_are_batched(size):
    weights = torch.tensor([0.1, 5.0, 1.0, 0.3, 2.0])
    training = make()
    criterion = Criterion(partial(F.cross_entropy, weight=weights))
    labels = torch.arange(50).remainder(7).clamp(max=4)
    batches = Batches(ImageSet.of(IMAGES.permute(0, 2, 3, 1), labels), torch.arange(50), size)
    with torch.no_grad():
        expected = F.cross_entropy(training.model.eval()(IMAGES), labels, weight=weights).item()
    assert evaluate(training.network, criterion, batches)["loss"] == pytest.approx(expected, rel=1e-5)


def test_an_epoch_of_weighted_losses_goes_on_after_a_checkpoint():
    """Also after one of an earlier version, which counted images."""
    weights = torch.tensor([0.1, 5.0, 1.0, 0.3, 2.0])
    weighted = replace(make(), criterion=Criterion(partial(F.cross_entropy, weight=weights)))
    state, _ = run(weighted, 3, checkpoint_every=3)
    assert 0 < state.weight_sum != state.num_seen
    again = State.from_dict(state.as_dict(), [])
    assert again.totals == state.totals
    old = {key: value for key, value in state.as_dict().items() if key != "weight_sum"}
    assert State.from_dict(old, []).weight_sum == state.num_seen
