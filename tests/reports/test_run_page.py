"""The page of a run: its numbers are the run directory's, and it is made of what there is."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.cli import main
from cnnlab.reports.confusion import MAX_PICTURES, share_out, show_classes
from cnnlab.reports.evidence import add_evaluations, read_evidence
from cnnlab.reports.page import encode, plain, show, tile
from cnnlab.reports.run_page import compare_with_defaults, plot_curves
from cnnlab.runs.calibration import calibrate
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from tests.conftest import compose_tree, small_config

pytest.importorskip("plotly", reason="reports need plotly")
EVIL = "<img src=x onerror=alert(1)>&\"'\x1b[31m"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("run"), "optimizer.lr=0.002"), ["optimizer.lr=0.002"])


@pytest.fixture
def copy(run, tmp_path) -> RunDirectory:
    shutil.copytree(run.path, tmp_path / "copy")
    return RunDirectory(tmp_path / "copy")


def write_report(run: RunDirectory, *arguments: str) -> str:
    assert main(["report", str(run), *arguments]) == 0
    return run.report.read_text(encoding="utf-8")


def cells_of(page: str, anchor: str) -> list[list[str]]:
    """The text of a table's rows, where the table stands after a heading with this anchor."""
    table = page.split(f'id="{anchor}"', 1)[1].split("</table>", 1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]


def data_of(page: str) -> dict:
    text = page.split('id="data">', 1)[1].split("</script>", 1)[0]
    return json.loads(text, parse_constant=pytest.fail)  # a browser would not read NaN


def test_every_number_agrees_with_the_run_directory(run):
    page, summary = write_report(run), json.loads(run.summary.read_text())
    facts = dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page))
    for name in ("loss", "accuracy", "log_loss"):
        assert facts[f"test {name.replace('_', ' ')}"] == f"{summary['test'][name]:.4f}"
        assert facts[f"valid {name.replace('_', ' ')}"] == f"{summary['best'][f'valid_{name}']:.4f}"
    assert facts["best epoch"] == str(summary["best"]["epoch"])
    assert facts["parameters"] == f"{summary['parameters']:,}"
    with run.classes.open() as file:
        header, *rows = csv.reader(file)
    shown = cells_of(page, "classes")
    assert shown == [[name, images, *(f"{float(share):.4f}" for share in shares)] for name, images, *shares in rows]
    costs, totals = dict(cells_of(page, "time")), summary["totals"]
    assert facts["seconds"] == costs["total seconds"] == f"{totals['seconds']:.4f}"
    assert facts["epochs"] == costs["total epochs"] == f"{totals['epochs']:.0f}"
    assert costs["total examples"] == f"{totals['examples']:,}"
    for part, taken in summary["speed"]["step_milliseconds"].items():
        assert float(costs[f"a step: {part}, ms"]) == pytest.approx(taken, abs=5e-5)
    for part, number in summary["images"].items():
        assert costs[f"{part} images"] == f"{number:,}"
    # What is computed anew is the same again.
    before, after = cells_of(page, "calibration")
    assert before[2] == facts["test log loss"]
    found = calibrate(str(run))
    mended = found["test"]["after"]
    assert after[1:] == [f"{value:.4f}" for value in (found["temperature"], mended["log_loss"], mended["ece"])]
    confusion = np.array(data_of(page)["plots"]["confusion"]["traces"][0]["text"])
    assert confusion.sum() == summary["images"]["test"]
    assert confusion.trace() / confusion.sum() == pytest.approx(summary["test"]["accuracy"])
    assert confusion.sum(1).tolist() == [int(row[1]) for row in rows]
    curves = data_of(page)["plots"]["curve_accuracy"]["traces"]
    assert curves[1]["y"] == [row["valid_accuracy"] for row in run.read_metrics()]
    assert "test" not in json.dumps([data_of(page)["plots"][f"curve_{name}"] for name in ("loss", "accuracy", "lr")])


def test_what_is_computed_anew_is_by_the_views_of_the_run(tmp_path):
    """Where test images are seen in several views, the matrix and the calibration are of these too."""
    run = start(small_config(tmp_path, "engine.tta=flip", "epochs=1"), [])
    page, summary = write_report(run), json.loads(run.summary.read_text())
    confusion = np.array(data_of(page)["plots"]["confusion"]["traces"][0]["text"])
    assert confusion.trace() / confusion.sum() == pytest.approx(summary["test"]["accuracy"])
    assert cells_of(page, "calibration")[0][2] == f"{summary['test']['log_loss']:.4f}"


def test_a_log_loss_is_drawn_where_it_is_another_than_the_loss(run):
    found = read_evidence(run)
    assert [trace["name"] for trace in plot_curves(found)[0].traces] == ["train loss", "valid loss"]
    found.rows[0]["valid_log_loss"] += 0.1  # as with label smoothing
    assert [trace["name"] for trace in plot_curves(found)[0].traces][2:] == ["valid log loss"]


def test_cells_hold_their_pictures(run):
    page = write_report(run)
    data = data_of(page)
    confusion = np.array(data["plots"]["confusion"]["traces"][0]["text"])
    assert {key: cell["images"] for key, cell in data["cells"].items()} == {
        f"{i},{j}": confusion[i, j] for i, j in zip(*confusion.nonzero(), strict=True)
    }
    assert all(len(cell["pictures"]) == min(24, cell["images"]) for cell in data["cells"].values())
    assert page.count("<figcaption>") > 20


def test_pictures_are_shared_out_fairly():
    labels = torch.tensor([0] * 5000 + [1] * 3)
    chosen = share_out(labels, torch.zeros_like(labels), torch.arange(5003))
    assert chosen[:3] == [((0, 0), 0), ((1, 0), 5000), ((0, 0), 1)]
    assert len(chosen) == 24 + 3
    each_cell = torch.arange(30).repeat_interleave(30), torch.arange(30).repeat(30)
    thrice = [side.repeat(3) for side in each_cell]
    assert len(share_out(*thrice, torch.arange(2700))) == MAX_PICTURES


def test_what_differs_from_the_defaults(run):
    rows = {row[0]: row[1:] for row in compare_with_defaults(run.read_config()).rows}
    assert rows["optimizer.lr"] == ["0.002", "0.003"]
    assert rows["dataset.image_size"] == ["12", "28"]
    assert "batch_size" not in rows and "model.name" not in rows
    tree = compose_tree("model=lenet", "optimizer=sgd")
    rows = {row[0]: row[1:] for row in compare_with_defaults(tree).rows}
    assert rows == {"model": ["lenet", "mnist_cnn"], "optimizer": ["sgd", "adam"]} | {
        key: value for key, value in rows.items() if key == "name"
    }


DAMAGE = {
    "no_summary": (lambda run: run.summary.unlink(), "there is no summary.json"),
    "torn_summary": (lambda run: run.summary.write_text('{"status": "comp'), "cannot be read"),
    "summary_is_a_list": (lambda run: run.summary.write_text("[1]"), "holds a list"),
    "no_metrics": (lambda run: run.metrics.unlink(), "metrics.csv has no epoch yet"),
    "torn_metrics": (lambda run: run.metrics.write_bytes(run.metrics.read_bytes()[:150]), None),
    "metrics_without_numbers": (
        lambda run: run.metrics.write_text("epoch,step,train_loss,valid_loss,lr\n1,9,nan,inf,1\n"),
        None,
    ),
    "foreign_metrics": (lambda run: run.metrics.write_bytes(b"\xff\x00"), "metrics.csv has no epoch yet"),
    "foreign_classes": (lambda run: run.classes.write_text("class,images\n\x00"), "classes"),
    "classes_of_words": (lambda run: run.classes.write_text("class,images\nfour,x\n"), "classes"),
    "torn_config": (lambda run: run.config.write_text("model: [unclosed"), "configuration"),
    "environment_is_null": (lambda run: run.environment.write_text("null"), "environment"),
    "no_dataset": (lambda run: run.dataset.unlink(), "has no dataset.json"),
    "no_checkpoints": (lambda run: shutil.rmtree(run.best.parent), "best.pt: missing"),
    "torn_checkpoint": (lambda run: run.best.write_bytes(b"torn"), "network"),
    "half_written": (
        lambda run: run.summary.write_text('{"status": "running", "best": 3, "test": []}'),
        "is running",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_page_is_made_of_what_there_is(copy, name):
    damage, told = DAMAGE[name]
    damage(copy)
    page = write_report(copy)
    missing = html.unescape("".join(re.findall(r'class="missing">(.*?)</div>', page, re.DOTALL)))
    assert told is None or told in missing
    data_of(page)
    assert "cnnlab resume" in page


def test_a_run_of_an_older_version_has_its_page(copy):
    """Before there were plots, loggers, speeds and peak memory."""
    tree = copy.read_config()
    del tree["plots"], tree["logger"]
    copy.write_yaml(copy.config, tree)
    summary = json.loads(copy.summary.read_text())
    copy.write_json(copy.summary, {key: summary[key] for key in ("status", "best", "test")})
    page = write_report(copy)
    assert 'class="missing"' not in page
    assert f"<dd>{summary['test']['accuracy']:.4f}</dd>" in page and 'id="confusion"' in page


def test_without_its_images_the_page_says_so(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for k in range(12):
            pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    tree = [f"dataset.root={folder}", "dataset=image_folder", "dataset.image_size=16", "model=linear"]
    run = start(small_config(tmp_path / "out", *tree, "split.valid=0.3"), [])
    shutil.rmtree(folder)
    page = write_report(run)
    assert "confusion matrix, pictures, calibration: they need the images" in page
    assert cells_of(page, "classes")[0][0] == "cat"


def test_names_with_html_stay_text(tmp_path):
    folder = tmp_path / "pictures"
    names = ("<b>bold<", "&amp; \"quo'ted")
    for name in names:
        (folder / name).mkdir(parents=True)
        for k in range(12):
            pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"<i>{k}.png")
    tree = [f"dataset.root={folder}", "dataset=image_folder", "dataset.image_size=16", "model=linear"]
    run = start(small_config(tmp_path / "out", *tree, "split.valid=0.3"), [EVIL])
    page = write_report(run)
    body = page.split("<script", 1)[0]
    assert "<b>" not in body and "<i>" not in body and "onerror=alert" not in body.replace("onerror=alert(1)&gt;", "")
    assert "\x1b" not in page.split("<script>")[0] and r"\x1b[31m" in page
    assert {row[0] for row in cells_of(page, "classes")} == set(names)
    data = data_of(page)
    assert set(data["classes"]) == set(names)
    told = {text.split(" taken for ")[0] for (text, *_) in data["plots"]["confusion"]["traces"][0]["hovertext"]}
    assert told == {plain(name) for name in names}
    assert "<b>" not in json.dumps(data["plots"])


def test_regression_has_predictions_beside_labels(tmp_path):
    from cnnlab.config import parse

    run = start(parse(compose_tree("experiment=linear_regression", f"output_dir={tmp_path}")), [])
    numbers = data_of(write_report(run))["plots"]["numbers"]["traces"]
    assert len(numbers[1]["x"]) > 0 and "confusion" not in data_of(run.report.read_text())["plots"]


def test_an_evaluation_without_test_images_shows_validation(tmp_path):
    found = read_evidence(start(small_config(tmp_path, "split.test=0"), []))
    add_evaluations(found)
    assert found.evaluation is not None and found.evaluation.part == "valid"
    seen, plots = show_classes(found.evaluation, found.trained.facts.task, list(found.trained.facts.classes))
    assert "144 valid images" in plots[0].title or "180 valid images" in plots[0].title
    assert len(plot_curves(found)) == 3


def test_cells_of_tables_and_pictures():
    assert [show(v) for v in (None, True, 1234567, 0.12345678, 0.0, 1.0, 2e-5, 12.0, 1581.14, "a")] == [
        "–", "true", "1,234,567", "0.1235", "0.0000", "1.0000", "2e-05", "12", "1,581.1", "a",
    ]  # fmt: skip
    assert plain("<b>" + "x" * 80) == "&lt;b&gt;" + "x" * 56 + "…"
    assert encode(np.zeros((28, 28, 1), np.uint8)).startswith("data:image/png;base64,")
    assert encode(np.zeros((300, 200, 3), np.uint8)).startswith("data:image/webp;base64,")
    tiled = tile(np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1), 2)
    assert tiled[..., 0].tolist() == [[0, 128, 1, 128], [128] * 4, [2, 128, 128, 128], [128] * 4]


def test_mistakes_are_told(tmp_path, run, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "no run here, and none below" in capsys.readouterr().err
    assert main(["report", str(run), "--output", "/dev/null"]) == 2
    assert main(["report", str(run), "epochs=[1"]) == 2
    assert main(["report", str(run.path.parent), "epochs=1"]) == 2
    assert "changes how a run is read" in capsys.readouterr().err
    assert main(["watch", "nowhere\0"]) == 2
    target = tmp_path / "other" / Path("page.html")
    assert main(["report", str(run), "--output", str(target)]) == 0
    assert target.stat().st_size < 10e6
