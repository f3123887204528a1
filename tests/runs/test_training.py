"""What a run leaves behind, and what may not influence it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.errors import ConfigError, DataError, DivergenceError, MemoryShortage
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.start import start
from tests.conftest import only_run, small_config
from tests.data.files import write_idx, write_mnist
from tests.runs.test_resume import assert_same, assert_same_end, metrics


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("run")), ["epochs=2"])


def test_the_directory_holds_what_the_house_says(run):
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml", "overrides.yaml", "environment.json", "train.log", "metrics.csv", "summary.json", "classes.csv",
        "dataset.json", "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt",
        "plots/curves.png", "plots/confusion.png", "plots/augmented.png", "plots/mistakes.png",
    }  # fmt: skip
    assert yaml.safe_load(run.overrides.read_text()) == ["epochs=2"]
    assert run.curves.read_bytes().startswith(b"\x89PNG")


def test_metrics_have_a_row_an_epoch_in_plain_columns(run):
    with run.metrics.open() as file:
        header, *rows = csv.reader(file)
    assert header == [
        "epoch", "step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "valid_log_loss", "lr",
        "seconds", "images_per_second",
    ]  # fmt: skip
    assert [row[:2] for row in rows] == [["1", "21"], ["2", "42"]]


def test_the_summary_tells_how_it_ended(run):
    summary = json.loads(run.summary.read_text())
    assert summary["status"] == "completed" and summary["reason"] is None
    assert summary["parameters"] == 260 + 1820 + 3620 + 20 * 16 + 16 + 16 * 10 + 10
    assert summary["images"] == {"train": 1294, "valid": 144, "test": 359}
    assert summary["totals"]["steps"] == 42 and summary["totals"]["examples"] == 2 * 1294
    assert set(summary["test"]) == {"loss", "accuracy", "log_loss"}
    assert summary["best"]["valid_accuracy"] == max(row["valid_accuracy"] for row in run.read_metrics())
    assert summary["peak_memory_mb"]["process"] > 50
    parts = summary["speed"]["step_milliseconds"]
    assert list(parts) == ["data", "forward", "backward", "optimizer"]
    assert all(taken > 0 for taken in parts.values())
    assert 42 * sum(parts.values()) / 1000 < summary["totals"]["seconds"]


def test_checkpoints_hold_plain_containers_and_the_configuration(run):
    last = load_checkpoint(run.last)
    assert set(last) == {"format", "model", "optimizer", "average", "state", "run", "config"}
    assert "rows" not in last["state"]
    assert last["config"] == run.read_config()


def test_seed_zero_is_a_seed_and_seeds_differ(run, tmp_path):
    again = start(small_config(tmp_path / "0", "seed=0"), [])
    other = start(small_config(tmp_path / "1", "seed=1"), [])
    assert metrics(again) == metrics(run)
    assert metrics(other) != metrics(run)


def test_runs_do_not_touch_each_other(tmp_path):
    """The second run of a process ends as it would have alone; what ran before it was another kind of run."""
    alone = start(small_config(tmp_path / "alone", "augment=flip_crop"), [])
    torch.manual_seed(99)
    torch.rand(17)
    start(small_config(tmp_path / "other", "model=two_conv", "dataset.image_size=16", "seed=5"), [])
    after = start(small_config(tmp_path / "after", "augment=flip_crop"), [])
    assert_same_end(alone, after)


def test_threads_of_the_reader_and_size_of_evaluation_change_nothing_but_rounding(run, tmp_path):
    other = start(small_config(tmp_path, "engine.eval_batch_size=7", "engine.log_every=1 step"), [])
    assert_same(load_checkpoint(run.last)["model"], load_checkpoint(other.last)["model"])
    for ours, theirs in zip(metrics(run), metrics(other), strict=True):
        assert ours["valid_accuracy"] == theirs["valid_accuracy"]
        assert ours["valid_loss"] == pytest.approx(theirs["valid_loss"], rel=1e-5)


def test_memory_formats_agree_to_rounding(run, tmp_path):
    other = start(small_config(tmp_path, "engine.memory_format=contiguous"), [])
    for ours, theirs in zip(metrics(run), metrics(other), strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)


# --- Honest selection -----------------------------------------------------------------------------------


def test_test_data_choose_nothing(tmp_path):
    """With every test label changed, all that a run decides stays the same bit for bit; only the test score moves."""
    runs = []
    for name, shift in (("honest", 0), ("spoiled", 3)):
        folder = tmp_path / name
        write_mnist(folder, num_train=640, num_test=50)
        write_idx(folder / "t10k-labels-idx1-ubyte", ((torch.arange(50) + shift) % 10).to(torch.uint8))
        config = plain_config(tmp_path / "out" / name, "dataset=mnist", f"dataset.root={folder}", "optimizer.lr=0.01")
        runs.append(start(config, []))
    honest, spoiled = runs
    assert metrics(honest) == metrics(spoiled)
    for name in ("last", "best"):
        left, right = (load_checkpoint(getattr(run, name))["model"] for run in runs)
        assert_same(left, right)
    assert [run.read_json(run.summary)["test"]["accuracy"] for run in runs] == [1.0, 0.0]


def plain_config(folder: Path, *overrides: str):
    from cnnlab.config import parse
    from tests.conftest import compose_tree

    return parse(compose_tree(f"output_dir={folder}", "engine.device=cpu", *overrides))


def test_without_validation_the_last_checkpoint_is_the_one(tmp_path):
    run = start(small_config(tmp_path, "split.valid=0"), [])
    assert not run.best.exists() and run.find_weights() == run.last
    assert run.read_json(run.summary)["best"] is None
    assert [row["valid_accuracy"] for row in run.read_metrics()] == [None, None]


# --- Failure ------------------------------------------------------------------------------------------


def test_a_diverging_run_fails_with_its_step_and_keeps_the_last_good_checkpoint(tmp_path):
    config = small_config(tmp_path, "optimizer=sgd", "optimizer.lr=1e30", "engine.checkpoint_every=1 step")
    with pytest.raises(DivergenceError, match=r"step \d+"):
        start(config, [])
    run = RunDirectory(only_run(tmp_path))
    summary = run.read_json(run.summary)
    assert summary["status"] == "failed" and "finite" in summary["reason"] or "nan" in summary["reason"]
    for path in run.path.glob("checkpoints/*.pt"):
        for value in load_checkpoint(path)["model"].values():
            assert torch.isfinite(value).all()


def test_missing_data_fail_before_there_is_a_directory(tmp_path):
    config = plain_config(tmp_path / "out", "dataset=mnist", f"dataset.root={tmp_path}", "dataset.download=false")
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        start(config, [])
    assert not (tmp_path / "out").exists()


def test_steps_and_examples_stand_in_for_epochs(tmp_path):
    steps = start(small_config(tmp_path / "a", "steps=25"), [])
    examples = start(small_config(tmp_path / "b", "examples=1550"), [])
    assert metrics(steps) == metrics(examples)
    assert [row["step"] for row in metrics(steps)] == [21, 25]


def test_the_notes_recipe_learns_from_files(tmp_path):
    write_mnist(tmp_path, ".gz", num_train=640, num_test=50)
    config = plain_config(
        tmp_path / "out", "experiment=mnist_cnn", f"dataset.root={tmp_path}", "epochs=30", "optimizer.lr=0.1"
    )
    run = start(config, [])
    assert run.path.parent.name == "mnist_cnn"
    assert run.read_json(run.summary)["test"]["accuracy"] == 1.0


def test_an_average_is_what_is_evaluated_and_kept(tmp_path):
    plain = start(small_config(tmp_path / "plain"), [])
    averaged = start(small_config(tmp_path / "averaged", "average=ema", "average.decay=0.95"), [])
    mine, other = load_checkpoint(averaged.last), load_checkpoint(plain.last)
    assert_same(mine["optimizer"], other["optimizer"])  # the steps are the same
    assert_same(mine["average"]["weights"], dict(other["model"]))
    assert not torch.equal(mine["model"]["0.weight"], other["model"]["0.weight"])
    assert [row["train_loss"] for row in metrics(averaged)] == [row["train_loss"] for row in metrics(plain)]
    assert [row["valid_loss"] for row in metrics(averaged)] != [row["valid_loss"] for row in metrics(plain)]
    best = max(metrics(averaged), key=lambda row: row["valid_accuracy"])
    evaluation = evaluate_run(str(averaged.path), "valid")
    assert evaluation["loss"] == pytest.approx(best["valid_loss"], rel=1e-6)


def test_micro_batches_change_nothing_but_rounding(run, tmp_path):
    micro = start(small_config(tmp_path, "engine.micro_batch_size=17"), [])
    for one, other in zip(metrics(run), metrics(micro), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


def test_patience_and_time_complete_a_run_and_say_why(tmp_path, capsys):
    early = start(small_config(tmp_path / "patience", "engine.patience=1", "engine.min_delta=10", "epochs=30"), [])
    summary = early.read_json(early.summary)
    assert (summary["status"], summary["reason"]) == ("completed", "valid_accuracy did not improve for 1 epochs")
    assert summary["totals"]["steps"] == 42 and summary["test"]
    assert "ended early: valid_accuracy did not improve for 1 epochs" in capsys.readouterr().out
    timed = start(small_config(tmp_path / "time", "engine.max_time=0.3s", "epochs=3000"), [])
    summary = timed.read_json(timed.summary)
    assert summary["status"] == "completed" and summary["reason"].startswith("engine.max_time is over after 0 s")
    assert summary["final"]["step"] == summary["totals"]["steps"] < 3000 * 21 and summary["test"]


def test_overfitting_trains_and_validates_on_the_same_few_batches(tmp_path):
    config = small_config(tmp_path, "engine.overfit=2", "epochs=60", "augment=shift", "optimizer.lr=0.01")
    run = start(config, [])
    summary = run.read_json(run.summary)
    assert summary["images"] == {"train": 128, "valid": 128, "test": 0}
    assert summary["best"]["valid_accuracy"] == 1.0 and summary["totals"]["steps"] == 120


def test_early_stopping_on_what_the_run_does_not_have_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="engine.stop_by: no 'valid_f1'; did you mean valid_micro_f1 or valid_macro_f1 or valid_mae"
    ):
        small_config(tmp_path, "engine.stop_by=valid_f1")
    with pytest.raises(ConfigError, match="engine.stop_by: valid_mae was given; this run has train_loss"):
        assemble(small_config(tmp_path, "engine.stop_by=valid_mae"))


def test_a_last_batch_of_one_image_is_told_before_the_run(tmp_path):
    """1,294 images in batches of 431: where that is too few for batch normalisation, and not where it is frozen."""
    network = ["model=resnet18", "dataset.image_size=28", "steps=1"]
    told = "batch_size: 431 was given; of 1,294 training images it leaves a last batch of one, .* expected 432, or"
    with pytest.raises(ConfigError, match=told):
        start(small_config(tmp_path, *network, "batch_size=431"), [])
    assert not list(tmp_path.rglob("last.pt"))
    frozen = small_config(
        tmp_path, "model=resnet18", "batch_size=431", "model.freeze=backbone", "model.feature_views=0"
    )
    build_experiment(frozen, assemble(frozen))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=mnist_cnn"], "augment.small_at_first.sizes: 20 was given; model: images of 1×20×20 stop at layer"),
        (["model=resnet20", "dataset.image_size=24"], "augment.small_at_first.sizes: 26 was given; images have 24"),
    ],
)
def test_images_that_are_small_at_first_fit_the_network_then_too(tmp_path, overrides, told):
    with pytest.raises(ConfigError, match=told):
        start(small_config(tmp_path, "augment=small_at_first", "dataset.image_size=28", *overrides), [])
    assert not list(tmp_path.rglob("last.pt"))


def test_a_network_that_memory_does_not_hold_is_told(tmp_path):
    with pytest.raises(MemoryShortage, match="model: mlp with its settings has more weights than the memory holds"):
        assemble(small_config(tmp_path, "model=mlp", "model.hidden=[1000000000]"))
