"""A run goes on with the images that it began with and from its own checkpoints, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from cnnlab.cli import main
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.runs import folds
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from tests.conftest import only_run, small_config
from tests.data.files import write_photographs
from tests.runs.test_resume import assert_same

WIDTH, HEIGHT = 16, 12
WHOLE, SQUARE = "dataset.resize=12", "dataset.resize=null"  # pictures to be cut, and squares


def data(folder: Path, *more: str) -> list[str]:
    pictures = ["dataset=image_folder", f"dataset.root={folder}", "model=linear", "dataset.normalize=imagenet"]
    return [*pictures, "batch_size=8", "epochs=2", *more]


def delete(folder: Path, run: RunDirectory) -> None:
    (folder / "a" / "0.jpg").unlink()


def add(folder: Path, run: RunDirectory) -> None:
    shutil.copy(folder / "a" / "0.jpg", folder / "a" / "new.jpg")


def change_label(folder: Path, run: RunDirectory) -> None:
    (folder / "a" / "0.jpg").rename(folder / "b" / "0.jpg")


def change_pixels(folder: Path, run: RunDirectory) -> None:
    """Of every picture, whose size stays."""
    for path in folder.glob("[ab]/*.jpg"):
        with Image.open(path) as picture:
            turned = picture.transpose(Image.Transpose.ROTATE_180)
        turned.save(path, quality=90)


def change_split(folder: Path, run: RunDirectory) -> None:
    tree = yaml.safe_load(run.config.read_text())
    tree["split"]["seed"] += 1
    run.config.write_text(yaml.safe_dump(tree))


CHANGES = (delete, add, change_label, change_pixels, change_split)


def read_files(run: RunDirectory) -> dict[Path, bytes]:
    """All but the log and the summary, where an attempt is told."""
    told = (run.log, run.summary)
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path not in told}


@pytest.mark.parametrize("resize", [WHOLE, SQUARE])
@pytest.mark.parametrize("change", CHANGES)
def test_other_images_labels_or_split_are_refused(tmp_path, capsys, change: Callable, resize: str):
    folder = tmp_path / "data"
    write_photographs(folder, num=40, width=WIDTH, height=HEIGHT)
    run = start(small_config(tmp_path / "runs", *data(folder, resize)), [])
    change(folder, run)
    before, earned = read_files(run), run.read_json(run.summary)
    assert main(["resume", str(run), "epochs=3"]) == 3
    err = capsys.readouterr().err
    assert "began with other images or labels, or another split of them: " in err and "train" in err.split("them: ")[1]
    assert read_files(run) == before
    found = run.read_json(run.summary)
    assert found.pop("last_attempt")["status"] == "failed" and found == earned
    assert main(["evaluate", str(run)]) == 0  # which loses nothing, and says so
    assert "than the run began with: " in capsys.readouterr().err


def test_a_run_whose_newest_checkpoint_is_missing_is_held_to_its_images_too(tmp_path, capsys):
    """As a kill between the two renames of a checkpoint leaves it."""
    write_photographs(tmp_path / "data", num=40, width=WIDTH, height=HEIGHT)
    run = start(small_config(tmp_path / "runs", *data(tmp_path / "data")), [])
    run.last.unlink()
    delete(tmp_path / "data", run)
    assert main(["resume", str(run)]) == 3
    assert "began with other images" in capsys.readouterr().err


def test_images_that_were_only_touched_are_the_same(tmp_path):
    folder = tmp_path / "data"
    write_photographs(folder, num=40, width=WIDTH, height=HEIGHT)
    run = start(small_config(tmp_path / "runs", *data(folder)), [])
    for path in folder.glob("[ab]/*.jpg"):
        path.touch()
    assert main(["resume", str(run), "epochs=3"]) == 0


def test_a_later_fold_is_trained_on_the_images_of_the_first(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "data"
    write_photographs(folder, num=40, width=WIDTH, height=HEIGHT)
    train = folds.train

    def train_first(config, *others):
        if config.fold == 1:
            raise KeyboardInterrupt
        train(config, *others)

    monkeypatch.setattr(folds, "train", train_first)
    with pytest.raises(KeyboardInterrupt):
        start(small_config(tmp_path / "runs", *data(folder, "folds=2")), ["folds=2"])
    monkeypatch.setattr(folds, "train", train)
    whole = RunDirectory(only_run(tmp_path / "runs"))
    delete(folder, whole)
    assert main(["resume", str(whole)]) == 3
    assert "fold_0: began with other images" in capsys.readouterr().err
    assert not whole.fold(1).last.exists() and not whole.out_of_fold.exists()


def test_a_checkpoint_of_another_run_of_the_same_network_is_refused(tmp_path, capsys):
    one, other = (start(small_config(tmp_path / name, f"seed={seed}"), []) for seed, name in enumerate("ab"))
    for path in (one.last, one.previous, one.best):
        shutil.copy(other.path / path.relative_to(one.path), path)
    before, earned = read_files(one), one.read_json(one.summary)
    assert main(["resume", str(one), "epochs=3"]) == 5
    assert "last.pt: is of another run" in capsys.readouterr().err
    assert read_files(one) == before
    found = one.read_json(one.summary)
    assert found.pop("last_attempt")["status"] == "failed" and found == earned
    for command in (["evaluate", str(one)], ["predict", str(one), "--part", "test"]):
        assert main(command) == 5
        assert "is of another run" in capsys.readouterr().err


def test_a_copied_run_goes_on_as_the_one_that_it_is_a_copy_of(tmp_path):
    run = start(small_config(tmp_path / "runs"), [])
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "elsewhere"))
    for each in (run, copy):
        assert main(["resume", str(each), "epochs=3"]) == 0
    assert_same(load_checkpoint(run.last)["model"], load_checkpoint(copy.last)["model"])
