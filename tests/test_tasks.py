"""A run of each task, as typed: multiclass (most other tests), binary and regression."""

from __future__ import annotations

import csv

import pytest
import torch

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.data import DATASETS, Dataset, Facts, ImageSet
from cnnlab.data.line import X, Y
from cnnlab.data.parts import split_off
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.evaluate import Sums
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.dataset import read_parts
from cnnlab.metrics import COLUMNS, ON_REQUEST, VALID_COLUMNS
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from cnnlab.tasks import BINARY, REGRESSION, TASKS
from tests.conftest import compose_tree, small_config
from tests.runs.test_resume import assert_same_end, metrics


def zeros_and_ones() -> Dataset:
    """The digits of two classes, 12×12."""

    def read(part: str) -> ImageSet:
        digits = DATASETS["digits"](image_size=12).read(part)
        chosen = digits.labels < 2
        return ImageSet(digits.store.select(chosen), digits.labels[chosen])

    return Dataset(Facts(("zero", "one"), 1, 12), ("train",), read)


def brightness() -> Dataset:
    """The digits of 12×12 with two targets: how bright the left and the right half are."""

    def read(part: str) -> ImageSet:
        images = DATASETS["digits"](image_size=12).read(part).store
        halves = [half.float().mean((1, 2, 3)) / 255 for half in images.tensor.chunk(2, dim=2)]
        return ImageSet(images, torch.stack(halves, 1))

    return Dataset(Facts(("left", "right"), 1, 12, task=REGRESSION), ("train",), read)


@pytest.fixture(autouse=True)
def register_own(monkeypatch):
    """For this file alone: other tests compare what is registered with conf/."""
    for builder in (zeros_and_ones, brightness):
        monkeypatch.setitem(DATASETS._builders, builder.__name__, builder)


def own_config(folder, dataset: str, *overrides: str):
    tree = compose_tree("epochs=3", "engine.device=cpu", f"output_dir={folder}", *overrides)
    tree["dataset"] = {"name": dataset, "task": tree["dataset"]["task"]}
    return parse(tree)


# --- Binary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [["loss=bce_with_logits"], ["loss=focal"], ["loss=poly"], ["loss=bce_with_logits", "augment=[mixup,cutmix]"]],
)
def test_two_classes_with_one_logit(tmp_path, overrides):
    config = own_config(tmp_path, "zeros_and_ones", "dataset.task=binary", "optimizer.lr=0.01", *overrides)
    run = start(config, [])
    assert load_checkpoint(run.last)["model"]["11.bias"].shape == (1,)
    summary = run.read_json(run.summary)
    assert summary["test"]["accuracy"] > 0.95
    assert summary["best"]["valid_accuracy"] == max(row["valid_accuracy"] for row in run.read_metrics())


def test_two_classes_are_multiclass_unless_asked(tmp_path):
    config = own_config(tmp_path, "zeros_and_ones")
    assert assemble(config).dataset.facts.num_outputs == 2
    with pytest.raises(ConfigError, match="cross_entropy is for multiclass, .* expected one of bce_with_logits, focal"):
        assemble(own_config(tmp_path, "zeros_and_ones", "dataset.task=binary"))


def test_more_classes_cannot_be_binary(tmp_path):
    with pytest.raises(ConfigError, match="dataset.task: binary was given; .* digits is multiclass with 10 outputs"):
        assemble(small_config(tmp_path, "dataset.task=binary", "loss=bce_with_logits"))


# --- Regression ---------------------------------------------------------------------------------------------


def test_the_notes_line(pictures, tmp_path, monkeypatch, capsys):
    """60 steps over 15 points are gradient descent written out; then every command that reads the run."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "experiment=linear_regression", "engine.device=cpu"]) == 0
    run = RunDirectory(next(tmp_path.glob("outputs/linear_regression/*")))
    assert run.line.read_bytes().startswith(b"\x89PNG")

    kept = [(x, y) for x, y in zip(X, Y, strict=True) if x not in (5.654, 9.27)]
    x, y = torch.tensor(kept).T
    first = assemble(parse(run.read_config())).network.model.state_dict()
    w, b = first["1.weight"].item(), first["1.bias"].item()
    for _ in range(60):
        error = w * x + b - y
        w, b = w - 0.001 * (2 * error * x).mean().item(), b - 0.001 * (2 * error).mean().item()
    model = load_checkpoint(run.last)["model"]
    assert (model["1.weight"].item(), model["1.bias"].item()) == pytest.approx((w, b), rel=1e-4)

    summary = run.read_json(run.summary)
    assert summary["images"] == {"train": 15, "valid": 0, "test": 2}
    errors = [abs(w * x + b - y) for x, y in zip(X, Y, strict=True) if x in (5.654, 9.27)]
    assert summary["test"] == pytest.approx({"loss": sum(e**2 for e in errors) / 2, "mae": sum(errors) / 2}, rel=1e-3)
    capsys.readouterr()
    assert main(["evaluate", str(run.path), "--part", "train"]) == 0
    assert "on 15 train images: loss 0." in (out := capsys.readouterr().out) and " mae 0." in out
    assert main(["reproduce", str(run.path)]) == 0


def test_regression_has_an_error_instead_of_an_accuracy_and_selects_by_the_loss(tmp_path):
    config = own_config(tmp_path, "brightness", "loss=mse", "optimizer.lr=0.01")
    run = start(config, [])
    with run.metrics.open() as file:
        header, *_ = csv.reader(file)
    assert header == [
        "epoch", "step", "train_loss", "train_mae", "valid_loss", "valid_mae", "lr", "seconds", "images_per_second"
    ]  # fmt: skip
    rows = run.read_metrics()
    summary = run.read_json(run.summary)
    assert summary["best"]["valid_loss"] == min(row["valid_loss"] for row in rows)
    assert rows[-1]["valid_mae"] < 0.05 < rows[0]["train_mae"]
    assert not run.line.exists()


def test_regression_resumes_exactly_inside_an_epoch(tmp_path):
    overrides = [
        "loss=l1",
        "augment=[shift,mixup,cutmix]",
        "engine.checkpoint_every=5 steps",
        "engine.select_by=valid_mae",
    ]
    whole = start(own_config(tmp_path / "a", "brightness", *overrides), [])
    run = start(own_config(tmp_path / "b", "brightness", *overrides, "steps=30"), [])
    resume(str(run.path), ["steps=null"])
    assert_same_end(run, whole)
    assert metrics(run)[0]["train_mae"]


def test_numbers_that_are_no_pixels_stay_as_they_are():
    config = parse(compose_tree("experiment=linear_regression", "engine.device=cpu"))
    assembly = assemble(config)
    x, y = read_parts(config, assembly.dataset, assembly.network.device)["train"].in_order().batch(0, 0)
    kept = [(x, y) for x, y in zip(X, Y, strict=True) if x not in (5.654, 9.27)]
    assert torch.equal(torch.stack([x.flatten(), y.flatten()], 1), torch.tensor(kept))


def test_what_changes_pixels_is_refused_for_other_numbers(tmp_path):
    config = parse(
        compose_tree(
            "experiment=linear_regression", "engine.device=cpu", "augment=[shift,mixup]", "augment.translate.pixels=1"
        )
    )
    assembly = assemble(config)
    with pytest.raises(ConfigError, match="augment: translate change pixels, and dataset line has other numbers"):
        read_parts(config, assembly.dataset, assembly.network.device)


def test_numbers_are_split_by_chance_alone():
    kept, taken = split_off(torch.randn(50, 1), 0.2, 0, "valid")
    assert len(taken) == 10 and torch.equal(torch.cat([kept, taken]).sort().values, torch.arange(50))


def test_points_that_are_held_out_must_be_there():
    with pytest.raises(ConfigError, match=r"dataset.held_out: \[1.0\] is no x of a point; expected some of 3.3, 4.4"):
        DATASETS["line"](held_out=(1.0, 3.3))
    assert DATASETS["line"](held_out=()).parts == ("train",)


# --- Metrics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["engine.select_by=valid_accuracy"],
            "engine.select_by: valid_accuracy was given; expected auto: no validation images",
        ),
        (["schedule=reduce_on_plateau"], "schedule.metric: valid_loss was given; this run has train_loss, train_mae"),
        (["schedule=reduce_on_plateau", "schedule.metric=train_accuracy"], "schedule.metric: train_accuracy was given"),
    ],
)
def test_a_metric_that_the_run_would_not_have_is_refused_before_data(overrides, told):
    with pytest.raises(ConfigError, match=told):
        assemble(parse(compose_tree("experiment=linear_regression", "engine.device=cpu", *overrides)))


def test_scores_are_sums_over_batches_of_any_size():
    sums = Sums(torch.device("cpu"), REGRESSION)
    sums.add(torch.tensor(2.0), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2), 2)
    sums.add(torch.tensor(5.0), torch.tensor([[6.0, 0.0]]), torch.zeros(1, 2), 1)
    assert sums.means() == {"loss": 3.0, "mae": (1.5 + 3.5 + 3.0) / 3}
    sums = Sums(torch.device("cpu"), BINARY)
    sums.add(torch.tensor(0.0), torch.tensor([[-1.0], [2.0], [-3.0]]), torch.tensor([0, 1, 1]), 3)
    assert sums.means()["accuracy"] == 2 / 3


def test_columns_are_those_of_the_tasks_and_on_request():
    of_tasks = {column for task in TASKS.values() for column in (*task.train_columns, *task.valid_columns)}
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert set(COLUMNS) == of_tasks | set(ON_REQUEST) and set(VALID_COLUMNS) < set(COLUMNS)
