"""`cnnlab audit`: changed labels and copied pictures are found, in tables and on the page."""

from __future__ import annotations

import csv
import html
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from tests.conftest import compose_tree, small_config

SHADES = {"<dark>": 40, "light": 180}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two classes told apart by how light they are; two pictures under the wrong label, one in two parts."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, shade in SHADES.items():
        (folder / name).mkdir()
        for k in range(60):
            coarse = (rng.integers(0, 60, (6, 6, 3)) + shade).astype(np.uint8)
            Image.fromarray(coarse).resize((16, 16), Image.Resampling.BICUBIC).save(
                folder / name / f"{name[1]}{k:02}.png"
            )
    (folder / "light" / "i05.png").rename(folder / "<dark>" / "wrong1.png")
    (folder / "<dark>" / "d07.png").rename(folder / "light" / "wrong2.png")
    copy = Image.open(folder / "light" / "i20.png")
    copy.save(folder / "light" / "copy.jpg", quality=98, subsampling=0)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_of_a_cross_validation_every_label_is_judged(pictures, tmp_path):
    tree = [f"dataset.root={pictures}", "dataset=image_folder", "dataset.image_size=16", "model=linear", "folds=3"]
    whole = start(small_config(tmp_path, *tree, "epochs=20", "split.test=0", "plots=off"), [])
    assert main(["audit", str(whole)]) == 0
    rows = read(whole.audit)
    assert len(rows) == 121
    assert {Path(row["id"]).name for row in rows[:2]} == {"wrong1.png", "wrong2.png"}
    assert [row["suspect"] for row in rows[:2]] == ["yes", "yes"]
    assert all(row["suspect"] == "no" for row in rows[2:])
    (twins,) = read(whole.twins)
    assert {Path(twins["id_1"]).name, Path(twins["id_2"]).name} == {"i20.png", "copy.jpg"}
    page = whole.audit_page.read_text()
    assert "2 of 121 images (fold 0, fold 1, fold 2)" in page
    agreeing = sum(float(row["p_label"]) >= float(row["p_suggested"]) for row in rows)
    assert f"agree with {agreeing / 121:.1%} of the labels" in page
    assert html.escape("rather <dark>") in page and "<dark>" not in page


def test_of_a_single_run_what_it_held_back_is_judged(pictures, tmp_path, capsys):
    tree = [f"dataset.root={pictures}", "dataset=image_folder", "dataset.image_size=16", "model=linear"]
    run = start(small_config(tmp_path, *tree, "epochs=20", "split.valid=0.3", "split.test=0.3"), [])
    assert main(["audit", str(run)]) == 0
    rows = read(run.audit)
    assert {row["part"] for row in rows} == {"valid", "test"}
    assert len(rows) == 26 + 36 and float(rows[0]["p_label"]) <= float(rows[-1]["p_label"])
    assert "pairs of near-twins" in capsys.readouterr().out


def test_what_cannot_be_audited_is_told(tmp_path, capsys):
    run = start(small_config(tmp_path, "split.valid=0", "split.test=0", "epochs=1"), [])
    assert main(["audit", str(run)]) == 2
    assert "has trained on all of its images" in capsys.readouterr().err
    line = start(parse(compose_tree("experiment=linear_regression", "epochs=1", f"output_dir={tmp_path}")), [])
    assert main(["audit", str(line)]) == 0
    told = "labels: only those of one class an image are judged, and this run is of a regression problem"
    assert told in RunDirectory(line.path).audit_page.read_text() and told in capsys.readouterr().out
