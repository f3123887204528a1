"""The same picture under two labels or in two parts, against every pair compared."""

from __future__ import annotations

import shutil

import pytest
import torch

from cnnlab.config import parse
from cnnlab.data.repeats import find_repeats
from cnnlab.experiment.dataset import build_dataset, read_parts
from cnnlab.runs.start import start
from tests.conftest import compose_tree
from tests.data.kaggle import write_dogs_vs_cats


@pytest.mark.parametrize("resize", ["null", "20"])
def test_what_is_told_is_what_comparing_every_pair_finds(tmp_path, resize):
    write_dogs_vs_cats(tmp_path, num_train=40)
    train = tmp_path / "train"
    shutil.copy(train / "cat.2.jpg", train / "dog.3.jpg")
    for number in range(5, 12):
        shutil.copy(train / "dog.4.jpg", train / f"dog.{number}.jpg")
    keys = [f"dataset.root={tmp_path}", f"dataset.resize={resize}", "dataset.image_size=12", f"output_dir={tmp_path}"]
    config = parse(compose_tree("dataset=dogs_vs_cats", "split.test=0.4", "engine.device=cpu", "epochs=1", *keys))
    dataset = build_dataset(config)
    parts = read_parts(config, dataset, torch.device("cpu"))
    spots = [
        (part, batches.images.name([index])[0], batches.images.store[index])
        for part, batches in parts.items()
        for index in batches.indices.tolist()
    ]
    leaked = {
        name
        for part, name, pixels in spots
        for other, _, others in spots
        if part != other and pixels.shape == others.shape and (pixels == others).all() and name.startswith("dog.")
    } - {"dog.3"}
    assert len(leaked) == 8
    labelled, crossing = find_repeats(parts, dataset.facts.classes)
    assert labelled.startswith("the same picture with different labels (1): ")
    assert "cat.2 (cat)" in labelled and "dog.3 (dog)" in labelled
    assert crossing.startswith("the same picture in different parts (1): ")
    assert all(f"{name} (" in crossing for name in leaked)
    log = start(config, []).log.read_text()
    assert labelled in log and crossing in log
