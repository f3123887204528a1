"""What a run draws unasked: which images, with which captions, and that nothing of it can stop a run."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch

from cnnlab.cli import main
from cnnlab.data import Facts
from cnnlab.data.normalise import Normalise
from cnnlab.engine.evaluate import Metrics, Predictions, evaluate
from cnnlab.experiment.assembly import build_criterion
from cnnlab.runs import pictures as drawing
from cnnlab.runs.pictures import describe_labels, find_mistakes, take_colours
from cnnlab.runs.plots import draw_confusion, draw_curves, draw_images
from cnnlab.runs.start import start
from cnnlab.runs.trained import load_trained
from cnnlab.tasks import MULTILABEL, REGRESSION, Mixed
from tests.conftest import only_run, small_config


def test_normalised_images_look_as_they_were():
    pixels = torch.arange(2 * 3 * 3 * 3, dtype=torch.uint8).view(2, 3, 3, 3)
    normalise = Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    seen = normalise.invert(normalise(pixels).permute(0, 3, 1, 2))
    torch.testing.assert_close(seen, pixels / 255)


def test_captions_of_classes_of_mixed_images_and_of_numbers():
    facts = Facts(("cat", "a name longer than any tile", "$x$"), 3, 8)
    assert describe_labels(torch.tensor([0, 1, 2]), facts) == ["cat", "a name longer t…", r"\$x\$"]
    mixed = Mixed(torch.tensor([0]), torch.tensor([2]), 0.75)
    assert describe_labels(mixed, facts) == ["75% cat\n25% \\$x\\$"]
    numbers = replace(facts, task=REGRESSION)
    assert describe_labels(torch.tensor([[1.5, 2.0, 3.0]]), numbers) == ["1.5\n2"]
    several = Facts(("cat", "dog", "sofa"), 3, 8, task=MULTILABEL)
    told = describe_labels(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.25, 0.0]]), several)
    assert told == ["cat sofa", "", "25% dog"]


def test_the_most_confident_mistakes_come_first():
    predictions = Predictions(torch.tensor([1, 0, 1, 1]), torch.tensor([0.6, 0.9, 0.99, 0.8]))
    assert find_mistakes(Metrics({}, None, predictions), torch.tensor([0, 0, 1, 0])).tolist() == [3, 0]


def test_kept_predictions_are_those_of_the_network(tmp_path):
    trained = load_trained(start(small_config(tmp_path, "epochs=1"), []))
    test = trained.read_parts()["test"].in_order()
    criterion = build_criterion(trained.config, trained.facts, trained.network.device)
    kept = evaluate(trained.network, criterion, test, keep_predictions=True)
    with torch.inference_mode():
        outputs = torch.cat([trained.network(test.batch(0, number)[0]) for number in range(len(test))])
    assert torch.equal(kept.predictions.classes, outputs.argmax(1))
    torch.testing.assert_close(kept.predictions.probabilities, outputs.softmax(1).amax(1))
    assert len(find_mistakes(kept, test.labels)) == round((1 - kept["accuracy"]) * test.num_examples)
    pixels = test.images.store.tensor[test.indices[:3]]
    torch.testing.assert_close(take_colours(test, torch.arange(3)), pixels / 255)


def test_plots_off_draws_nothing(tmp_path, pictures):
    run = start(small_config(tmp_path, "epochs=1", "plots=off"), [])
    assert not run.curves.parent.exists()


def test_what_cannot_be_drawn_is_told_in_a_line_and_the_run_is_complete(tmp_path, pictures, monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("no\x1b[31m font")

    monkeypatch.setattr(drawing, "draw_augmented", fail)
    run = start(small_config(tmp_path, "epochs=1"), [])
    told = capsys.readouterr().err.strip()
    assert told == rf"{run.augmented}: is not drawn (RuntimeError: no\x1b[31m font)"
    assert json.loads(run.summary.read_text())["status"] == "completed"
    assert run.curves.is_file() and run.mistakes.is_file() and not run.augmented.exists()


def test_augmented_images_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "augment=[shift,mixup]", "--plot"]) == 0
    assert capsys.readouterr().out == "augmented.png\n"
    assert (tmp_path / "augmented.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_drawing_takes_less_than_three_seconds_for_120_classes_at_224_pixels(tmp_path):
    run = start(small_config(tmp_path, "epochs=1"), [])
    started = time.process_time()
    draw_curves(run, 1)
    draw_confusion(run, "test", torch.randint(0, 9, (120, 120)), [f"breed number {k}" for k in range(120)])
    for path in (run.augmented, run.mistakes):
        draw_images(torch.rand(48, 224, 224, 3), ["a\n→ b"] * 48, "title", path)
    assert time.process_time() - started < 3
    assert only_run(tmp_path) == run.path
