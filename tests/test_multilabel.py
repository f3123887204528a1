"""Several labels an image: from the table to the submission, held against scikit-learn and torch."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, precision_recall_fscore_support

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.data.parts import assign_folds, split_off
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.dataset import build_dataset
from cnnlab.reports.folder_page import write_folder_page
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.predict import predict
from cnnlab.runs.start import resume, start
from cnnlab.runs.trained import load_trained
from cnnlab.tasks import MULTILABEL
from tests.conftest import compose_tree
from tests.data.kaggle import write_table

LABELS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def lights(tmp_path_factory):
    """Pictures in which some of three lights are on: a table with a column each, one with a list, and a sample."""
    folder, rng = tmp_path_factory.mktemp("lights"), np.random.default_rng(0)
    on = rng.random((130, 3)) < (0.5, 0.4, 0.15)
    for part, numbers in (("train", range(100)), ("test", range(100, 130))):
        (folder / part).mkdir()
        for number in numbers:
            pixels = rng.integers(0, 100, (12, 12, 3)) + 155 * on[number]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / part / f"{number}.png")
    write_table(folder / "labels.csv", ("id", *LABELS), ((n, *on[n].astype(int)) for n in range(100)))
    lists = ((n, " ".join(name for name, is_on in zip(LABELS, on[n], strict=True) if is_on)) for n in range(100))
    write_table(folder / "lists.csv", ("id", "label"), lists)
    return folder, on


COLUMNS = ["dataset.label_columns=[red,green,blue]"]
LISTS = ["dataset.table=lists.csv", "dataset.label_separator=' '"]


def configure(lights, folder, *overrides):
    keys = [f"dataset.root={lights[0]}", "dataset.image_size=12", f"output_dir={folder}", "loss=bce_with_logits"]
    return parse(
        compose_tree("dataset=image_csv", "epochs=15", "engine.device=cpu", "batch_size=10", *keys, *overrides)
    )


@pytest.fixture(scope="module")
def run(lights, tmp_path_factory):
    return start(configure(lights, tmp_path_factory.mktemp("runs"), *COLUMNS, "loss.pos_weight=auto"), [])


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- Labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [COLUMNS, LISTS])
def test_columns_and_lists_say_the_same(lights, tmp_path, keys):
    folder, on = lights
    dataset = build_dataset(configure(lights, tmp_path, *keys))
    assert dataset.facts.task is MULTILABEL and dataset.facts.num_outputs == 3
    assert set(dataset.facts.classes) == set(LABELS)
    images = dataset.read("train")
    order = [LABELS.index(name) for name in dataset.facts.classes]
    expected = [on[int(name)][order] for name in images.name(range(100))]
    assert torch.equal(images.labels, torch.from_numpy(np.stack(expected)).float())


def test_parts_and_folds_have_their_share_of_each_label(lights, tmp_path):
    labels = build_dataset(configure(lights, tmp_path, *COLUMNS)).read("train").labels
    _, taken = split_off(labels, 0.2, 0, "test")
    assert abs(len(taken) - 20) <= 1
    assert ((labels[taken].sum(0) - 0.2 * labels.sum(0)).abs() <= 1.2).all()
    folds = assign_folds(labels, 4, 0)
    for fold in range(4):
        assert abs(int((folds == fold).sum()) - 25) <= 1
        assert ((labels[folds == fold].sum(0) - 0.25 * labels.sum(0)).abs() <= 1.5).all()


@pytest.mark.parametrize(
    ("rows", "keys", "told"),
    [
        ([(0, 1, 0, 2)], COLUMNS, r"labels.csv: ids with another label than 0 or 1 \(1\): 0; expected one of these"),
        ([(0, 1, 0, "")], COLUMNS, r"lines with an empty cell \(1\): 2"),
        ([(0, 1, 0, 1)], [*COLUMNS, "dataset.label_separator=' '"], "both were given"),
        ([(0, 1, 0, 1)], ["dataset.label_columns=[red,yellow]"], "expected a table with the columns id, red, yellow"),
    ],
)
def test_what_is_no_label_is_told(lights, tmp_path, rows, keys, told):
    write_table(tmp_path / "labels.csv", ("id", *LABELS), rows)
    (tmp_path / "train").symlink_to(lights[0] / "train")
    with pytest.raises(Exception, match=told):
        build_dataset(configure((tmp_path, None), tmp_path, *keys))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["loss=cross_entropy"],
            "cross_entropy is for multiclass, .* task is multilabel; expected one of bce_with_log",
        ),
        (["loss=focal"], "loss: focal is for multiclass and binary"),
        (
            ["sampling=balanced"],
            "sampling: balanced was given; expected shuffled: multilabel has no classes to balance",
        ),
        (["engine.metrics=[kappa]"], "engine.metrics: kappa are of classes, and multilabel has none"),
        (["engine.select_by=valid_accuracy"], "expected auto, valid_loss or valid_label_accuracy or valid_macro_f1"),
        (["++dataset.label_map={red: warm}"], "expected {}: multilabel has no classes to map"),
        (["dataset.task=binary"], "dataset.task: binary was given; expected null"),
    ],
)
def test_what_is_for_one_class_an_image_is_refused_by_name(lights, tmp_path, overrides, told):
    with pytest.raises(ConfigError, match=told):
        assemble(configure(lights, tmp_path, *COLUMNS, *overrides))


# --- Training and metrics ---------------------------------------------------------------------------------------


def test_it_is_learned_and_measured_as_scikit_learn_does(run):
    summary = run.read_json(run.summary)
    rows = run.read_metrics()
    assert summary["test"]["macro_f1"] > 0.8
    assert summary["best"]["valid_macro_f1"] == max(row["valid_macro_f1"] for row in rows)
    trained = load_trained(run)
    test = trained.read_parts()["test"]
    has, labels = trained.compute_outputs(test) > 0, test.labels
    measured = evaluate_run(str(run))
    for name, average in (("macro_f1", "macro"), ("micro_f1", "micro")):
        expected = f1_score(labels.numpy(), has.numpy(), average=average, zero_division=0)
        assert measured[name] == pytest.approx(expected, abs=1e-12) == summary["test"][name]
    assert measured["label_accuracy"] == pytest.approx((has == (labels == 1)).double().mean().item(), abs=1e-12)


def test_each_label_has_its_scores(run, capsys):
    """In classes.csv, by evaluate and on the page, as scikit-learn computes them."""
    trained = load_trained(run)
    test = trained.read_parts()["test"]
    has, labels = (trained.compute_outputs(test) > 0).numpy(), test.labels.numpy()
    precision, recall, f1, images = precision_recall_fscore_support(labels, has, average=None, zero_division=0)
    table = read_table(run.classes)
    assert [row["class"] for row in table] == list(LABELS) and [int(row["images"]) for row in table] == images.tolist()
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert [float(row[name]) for row in table] == pytest.approx(expected.tolist(), abs=1e-12)
    measured = evaluate_run(str(run))
    assert measured["mean_of_classes"]["f1"] == pytest.approx(measured["macro_f1"], abs=1e-12)
    assert "confusion" not in measured
    assert main(["evaluate", str(run)]) == 0
    told = f"blue {images[2]:8,} {precision[2]:10.4f} {recall[2]:8.4f} {f1[2]:8.4f}"
    assert told.split() in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_labels_that_are_never_predicted_are_named(lights, tmp_path, capsys):
    start(configure(lights, tmp_path, *COLUMNS, "epochs=1", "optimizer.lr=1e-9"), [])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("labels never predicted on")]
    assert line.endswith("; to count them as much as others: loss.pos_weight=auto, cnnlab predict --threshold fit")


def test_labels_that_are_never_predicted_count_zero():
    hits = MULTILABEL.count_hits(torch.zeros(4, 2, dtype=torch.bool), torch.tensor([[0.0, 1.0]] * 4))
    assert hits.tolist() == [[0, 0], [0, 0], [0, 4]]
    assert MULTILABEL.measure_f1(hits) == {"macro_f1": 0.0, "micro_f1": 0.0}


def test_it_resumes_exactly_with_mixed_images(lights, tmp_path):
    keys = [*COLUMNS, "augment=[mixup,cutmix]", "epochs=2", "engine.checkpoint_every=3 steps"]
    whole = start(configure(lights, tmp_path / "a", *keys), [])
    part = start(configure(lights, tmp_path / "b", *keys, "steps=9"), [])
    resume(str(part.path), ["steps=null"])
    kept = [[{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in r.read_metrics()]
            for r in (whole, part)]  # fmt: skip
    assert kept[0] == kept[1]


def test_folds_have_the_score_of_their_table(lights, tmp_path):
    whole = start(configure(lights, tmp_path, *COLUMNS, "folds=2", "epochs=3", "split.test=0"), [])
    table = read_table(whole.out_of_fold)
    _, on = lights
    for row in table:
        told = {name for name, is_on in zip(LABELS, on[int(row["id"])], strict=True) if is_on}
        assert set(row["label"].split()) == told
        assert set(row["prediction"].split()) == {name for name in LABELS if float(row[name]) > 0.5}
    for fold in json.loads(whole.summary.read_text())["folds"]:
        rows = [row for row in table if row["fold"] == str(fold["fold"])]
        is_so = np.array([on[int(row["id"])] for row in rows])
        has = np.array([[float(row[name]) > 0.5 for name in LABELS] for row in rows])
        assert fold["macro_f1"] == pytest.approx(f1_score(is_so, has, average="macro", zero_division=0), abs=1e-12)


# --- Submissions --------------------------------------------------------------------------------------------------


def test_each_label_has_a_column_of_zeros_and_ones_or_of_probabilities(run):
    predict([str(run)])
    table = read_table(run.predictions)
    assert list(read_table(run.submission)[0]) == ["id", *LABELS]
    for row, told in zip(table, read_table(run.submission), strict=True):
        assert [told[name] for name in LABELS] == [str(int(float(row[name]) > 0.5)) for name in LABELS]
    predict([str(run)], threshold="0.2,0.5,0.9")
    for row, told in zip(table, read_table(run.submission), strict=True):
        cuts = zip(LABELS, (0.2, 0.5, 0.9), strict=True)
        assert [told[name] for name in LABELS] == [str(int(float(row[name]) >= cut)) for name, cut in cuts]
    predict([str(run)], value="probabilities", clip=0.1)
    for row, told in zip(table, read_table(run.submission), strict=True):
        expected = [min(max(float(row[name]), 0.1), 0.9) for name in LABELS]
        assert [float(told[name]) for name in LABELS] == pytest.approx(expected, abs=1e-8)


def test_lists_are_told_as_lists_and_checked_as_such(lights, tmp_path, capsys):
    run = start(configure(lights, tmp_path, *LISTS, "epochs=3"), [])
    predict([str(run)])
    submission = read_table(run.submission)
    for row, told in zip(read_table(run.predictions), submission, strict=True):
        names = load_trained(run).facts.classes
        assert told["label"] == " ".join(name for name in names if float(row[name]) > 0.5)
    keys = ["dataset=image_csv", f"dataset.root={lights[0]}", *LISTS]
    assert main(["submit-check", str(run.submission), *keys]) == 0
    text = run.submission.read_text().replace("red", "rad")
    run.submission.write_text(text)
    capsys.readouterr()
    assert main(["submit-check", str(run.submission), *keys]) == 3
    assert "lines whose label is no class" in capsys.readouterr().out


def test_thresholds_are_fitted_to_validation_images(run, capsys):
    predict([str(run)], threshold="fit")
    told = capsys.readouterr().out
    trained = load_trained(run)
    valid = trained.read_parts()["valid"]
    scores, labels = trained.compute_outputs(valid).sigmoid().numpy(), valid.labels.numpy()
    found = [float(value) for value in told.splitlines()[0].partition("held out: ")[2].split()[::2]]
    best = [
        max(f1_score(labels[:, k], scores[:, k] >= cut, zero_division=0) for cut in [0, *scores[:, k]])
        for k in range(3)
    ]
    reached = [f1_score(labels[:, k], scores[:, k] >= found[k], zero_division=0) for k in range(3)]
    assert reached == pytest.approx(best, abs=1e-12)
    assert f"{np.mean(best):.4f} with these" in told


def test_weights_are_fitted_to_all_labels_of_validation_images(run, lights, tmp_path, capsys):
    other = start(configure(lights, tmp_path, *COLUMNS, "epochs=2", "seed=1"), [])
    paths, right = [str(run), str(other)], []
    capsys.readouterr()
    predict(paths, weights="fit")
    told = capsys.readouterr().out
    for path in (run, other):
        trained = load_trained(RunDirectory(path.path))
        valid = trained.read_parts()["valid"]
        p, labels = trained.compute_outputs(valid).sigmoid(), valid.labels.double()
        right.append((p * labels + (1 - p) * (1 - labels)).flatten().numpy())
    shares = np.linspace(0, 1, 2001)
    losses = [-np.log(share * right[0] + (1 - share) * right[1]).mean() for share in shares]
    found = [float(text) for text in told.splitlines()[0].partition("held out: ")[2].split()[::2]]
    assert found[0] == pytest.approx(shares[np.argmin(losses)], abs=1e-3)
    assert f"{min(losses):.4f} with these" in told
    table = read_table(run.predictions)
    parts = []
    for path in paths:
        predict([path])
        parts.append(np.array([float(row["red"]) for row in read_table(RunDirectory.open(path).predictions)]))
    mixed = found[0] * parts[0] + found[1] * parts[1]
    assert [float(row["red"]) for row in table] == pytest.approx(mixed.tolist(), abs=1e-4)


def test_what_makes_no_sense_of_several_labels_is_said_of_labels(run, tmp_path, capsys):
    assert main(["compare", str(run), str(run), "--test"]) == 2
    told = "is of a multilabel problem; --test counts images that are right, of one class each"
    assert told in capsys.readouterr().err
    assert main(["audit", str(run)]) == 0
    assert "and this run is of a multilabel problem" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = run.report.read_text()
    assert "Predictions of" not in page and "from classes.csv" in page


def test_the_index_of_runs_has_their_scores(run, capsys):
    folder = run.path.parent
    page = write_folder_page(folder)
    assert "valid macro f1" in page and "test label accuracy" in page and "valid accuracy" not in page
    summary = run.read_json(run.summary)
    for value in (summary["best"]["valid_macro_f1"], summary["test"]["label_accuracy"]):
        assert f'data-value="{value}">{value:.4f}<' in page


def test_pairs_of_twins_have_the_names_of_their_labels(lights, tmp_path):
    folder, on = lights
    twin = tmp_path / "data"
    shutil.copytree(folder, twin)
    shutil.copyfile(twin / "train" / "1.png", twin / "train" / "0.png")
    run = start(configure((twin, on), tmp_path, *COLUMNS, "epochs=1"), [])
    assert main(["audit", str(run)]) == 0
    named = {row[f"id_{side}"]: row[f"label_{side}"] for row in read_table(run.path / "twins.csv") for side in (1, 2)}
    for number in (0, 1):
        assert named[str(number)] == " ".join(name for name, is_on in zip(LABELS, on[number], strict=True) if is_on)


def test_every_page_and_command_takes_such_a_run(run, lights, capsys):
    for command in ("report", "evaluate", "compare", "inspect", "audit"):
        assert main([command, str(run)]) == 0
    assert main(["export", str(run), "--format", "torch_export"]) == 0
    card = (run.path / "export" / "torch_export" / "README.md").read_text()
    assert "**Output:** (N, 3), a logit for each label, a sigmoid of which is its probability." in card
    assert main(["calibrate", str(run)]) == 2
    assert main(["prepare", "dataset=image_csv", f"dataset.root={lights[0]}", *COLUMNS, "split.test=0"]) == 0
    out = capsys.readouterr().out
    assert "all       90     10" in out
    assert (run.path / "report.html").stat().st_size > 10_000
    moved = RunDirectory(run.path)
    assert moved.read_json(moved.dataset)["task"] == "multilabel"
