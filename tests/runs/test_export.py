"""Exported networks: the same logits, used without cnnlab, with a card that tells what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnlab.cli import main
from cnnlab.errors import ConfigError
from cnnlab.runs import export as exporting
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.export import export, require_same
from cnnlab.runs.start import start
from cnnlab.runs.trained import load_trained
from tests.conftest import small_config

WITHOUT_CNNLAB = "import sys, runpy; sys.modules['cnnlab'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
NEEDS = {"onnx": "onnxruntime", "safetensors": "safetensors", "torch_export": "torch"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("run"), "epochs=1"), [])


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> tuple[RunDirectory, Path]:
    """A run of torchvision's network of two classes of pictures, and one of them."""
    folder = tmp_path_factory.mktemp("colours")
    for name, shade in (('dark "one"', 60), ("light", 190)):
        (folder / "data" / name).mkdir(parents=True)
        for k in range(12):
            pixels = np.random.default_rng(k).integers(0, 60, (32, 32, 3)) + shade
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "data" / name / f"{k}.png")
    tree = ["dataset=image_folder", f"dataset.root={folder / 'data'}", "dataset.image_size=32", "split.valid=0.3"]
    model = ["model=torchvision", "model.arch=shufflenet_v2_x0_5", "epochs=1"]
    return start(small_config(folder / "runs", *tree, *model), []), folder / "data" / "light" / "0.png"


@pytest.mark.parametrize(
    "kind", [kind if kind == "onnx" else pytest.param(kind, marks=pytest.mark.slow) for kind in NEEDS]
)
def test_the_example_predicts_without_cnnlab_what_cnnlab_predicts(colours, kind, capsys, tmp_path):
    pytest.importorskip(NEEDS[kind])
    run, picture = colours
    assert main(["export", str(run), "--format", kind]) == 0
    folder = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert folder == run.path / "export" / kind
    pictures = [picture, *draw_others(picture, tmp_path)] if kind == "onnx" else [picture]
    for number, path in enumerate(pictures):
        command = [sys.executable, "-c", WITHOUT_CNNLAB, str(folder / "example.py"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        told = {name: float(share) for name, share in (line.split("\t") for line in done.stdout.splitlines())}
        target = tmp_path / f"{number}.csv"
        assert main(["predict", str(run), "--images", str(path), "--output", str(target)]) == 0
        table = target.read_text().replace('"dark ""one"""', 'dark "one"')
        header, row = (line.split(",") for line in table.splitlines())
        for name in ("light", 'dark "one"'):
            assert told[name] == pytest.approx(float(row[header.index(name)]), abs=2e-5)
    assert len((folder / "example.py").read_text().splitlines()) <= 32


def draw_others(picture: Path, folder: Path) -> list[Path]:
    """The same in 16 bits of grey, half transparent, and with a palette of which a colour is transparent."""
    with Image.open(picture) as opened:
        grey = np.asarray(opened.convert("L")).astype(np.uint16)
        Image.fromarray(grey << 8).save(folder / "sixteen.png")
        see_through = opened.convert("RGBA")
        see_through.putalpha(100)
        see_through.save(folder / "alpha.png")
        opened.convert("P").save(folder / "palette.png", transparency=3)
    return sorted(folder.glob("*.png"))


def test_the_card_tells_what_it_is(colours):
    run, _ = colours
    card = (export(str(run), "torch_export") / "README.md").read_text()
    summary = json.loads(run.summary.read_text())
    assert "license: other" in card and "**Licence:**" in card
    assert json.dumps('dark "one"') in card
    assert f"| test accuracy | {summary['test']['accuracy']:.4f} |" in card
    mean = load_trained(run).facts.mean
    assert str(list(mean)) in card


def test_safetensors_are_read_by_model_weights(run, tmp_path):
    pytest.importorskip("safetensors")
    folder = export(str(run), "safetensors", str(tmp_path / "out"))
    settings = ["dataset.image_size=12", "engine.device=cpu", f"model.weights={folder / 'model.safetensors'}"]
    assert main(["evaluate", *settings, "--json"]) == 0
    other = start(small_config(tmp_path, f"model.weights={folder / 'model.safetensors'}", "epochs=1"), [])
    assert evaluate_run(str(other))["images"] == 359


def test_a_new_export_replaces_the_old_and_nothing_else(run, tmp_path):
    folder = export(str(run), "torch_export", str(tmp_path / "out"))
    assert export(str(run), "torch_export", str(tmp_path / "out")) == folder
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds no model.pt2"):
        export(str(run), "torch_export", str(tmp_path / "mine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_other_logits_are_refused_and_leave_nothing(run, tmp_path, monkeypatch):
    model = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match="gives other logits"):
        require_same(model, lambda images: model(images) + 0.01, torch.randn(4, 3), "onnx")
    with pytest.raises(ConfigError, match="gives other logits"):
        require_same(model, lambda images: model(images) * torch.nan, torch.randn(4, 3), "onnx")
    monkeypatch.setitem(exporting.WRITERS, "torch_export", lambda model, images, path: lambda some: model(some) + 1)
    with pytest.raises(ConfigError, match="gives other logits"):
        export(str(run), "torch_export", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(run), "--format", "onnx"]) == 2
    assert 'pip install "cnnlab[export]"' in capsys.readouterr().err
