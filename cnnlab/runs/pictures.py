"""What is drawn of a run when it ends, unasked: curves, augmented images, confusion matrix, mistakes.

A picture is no reason to fail: whatever keeps one from being drawn is told in a line, and the run goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cnnlab.data import Facts
from cnnlab.data.batches import Batches
from cnnlab.data.normalise import Normalise
from cnnlab.engine.evaluate import Metrics
from cnnlab.errors import printable
from cnnlab.experiment.training import Experiment
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.plots import draw_confusion, draw_curves, draw_images, draw_line, legible
from cnnlab.tasks import MULTILABEL, Labels, Mixed

MAX_AUGMENTED = 48
MAX_MISTAKES = 32
MAX_CAPTION = 16  # letters of a line


@dataclass(frozen=True)
class Evaluated:
    """What a run was evaluated on at its end, and how well it did."""

    part: str
    metrics: Metrics

    @property
    def part_name(self) -> str:
        return "validation" if self.part == "valid" else self.part


def draw_pictures(run: RunDirectory, best: int | None, experiment: Experiment, evaluated: Evaluated | None) -> None:
    """Everything there is to draw into plots/; `best` is the epoch that was chosen. Never raises."""
    facts, parts = experiment.facts, experiment.parts
    drawings: list[tuple[Path, Callable[[], None]]] = [
        (run.curves, lambda: draw_curves(run, best)),
        (run.augmented, lambda: draw_augmented(parts["train"], facts, run.augmented)),
    ]
    if evaluated is not None and evaluated.metrics.confusion is not None:
        part, metrics, confusion = evaluated.part, evaluated.metrics, evaluated.metrics.confusion
        drawings += [
            (run.confusion, lambda: draw_confusion(run, part, confusion, facts.classes)),
            (run.mistakes, lambda: draw_mistakes(run, part, metrics, parts[part], facts.classes)),
        ]
    if evaluated is not None and facts.maps_number_to_number:
        points: Mapping = {**parts, "train": parts["train"].in_order()}
        drawings.append((run.line, lambda: draw_line(run, experiment.training.network, points)))
    for path, draw in drawings:
        try:
            draw()
        except Exception as error:  # of any kind: the run is complete without its pictures
            print(f"{printable(path)}: is not drawn ({type(error).__name__}: {printable(error)})", file=sys.stderr)


def draw_augmented(train: Batches, facts: Facts, path: Path) -> None:
    """The first training images of the first epoch as the network sees them, with their labels.

    Nothing where they are no pictures.
    """
    if not train.images.holds_pixels:
        return
    images, labels = train.batch(0, 0)
    captions = describe_labels(labels[:MAX_AUGMENTED], facts)
    title = f"{len(captions)} training images as the network sees them in epoch 1"
    draw_images(train.normalise.invert(images[:MAX_AUGMENTED]), captions, title, path)


def describe_labels(labels: Labels, facts: Facts) -> list[str]:
    """A caption for each: the class, both classes of a mixed image with their shares, its labels, or numbers."""
    if isinstance(labels, Mixed):
        names = zip(describe_labels(labels.first, facts), describe_labels(labels.second, facts), strict=True)
        share = labels.weight
        return [f"{share:.0%} {first}\n{1 - share:.0%} {second}" for first, second in names]
    if facts.task is MULTILABEL:
        rows = [zip(labels_of_image, facts.classes, strict=True) for labels_of_image in labels.tolist()]
        return [shorten(" ".join(name if p == 1 else f"{p:.0%} {name}" for p, name in row if p > 0)) for row in rows]
    if labels.is_floating_point():
        return ["\n".join(f"{value:.3g}" for value in row[:2]) for row in labels.tolist()]
    return [shorten(facts.classes[label]) for label in labels.tolist()]


def shorten(name: str) -> str:
    """A name as it fits under an image."""
    name = legible(name)
    return name if len(name) <= MAX_CAPTION else f"{name[: MAX_CAPTION - 1]}…"


def find_mistakes(metrics: Metrics, labels: Tensor) -> Tensor:
    """Positions of the images that were taken for another class, the most confident first: int64 (N,)."""
    assert metrics.predictions is not None, "asked of an evaluation that kept them"
    wrong = (metrics.predictions.classes != labels.cpu()).nonzero().flatten()
    return wrong[metrics.predictions.probabilities[wrong].argsort(descending=True, stable=True)]


def draw_mistakes(run: RunDirectory, part: str, metrics: Metrics, batches: Batches, classes: Sequence[str]) -> None:
    """plots/mistakes.png: the most confident mistakes with their class and the one predicted; no file without any."""
    predictions = metrics.predictions
    if predictions is None:
        return
    mistakes = find_mistakes(metrics, batches.labels)
    chosen = mistakes[:MAX_MISTAKES]
    if len(chosen) == 0:
        run.mistakes.unlink(missing_ok=True)
        return
    captions = [
        f"{shorten(classes[label])}\n→ {shorten(classes[taken])}, {probability:.0%}"
        for label, taken, probability in zip(
            batches.labels.cpu()[chosen].tolist(),
            predictions.classes[chosen].tolist(),
            predictions.probabilities[chosen].tolist(),
            strict=True,
        )
    ]
    counted = f"the {len(chosen)} most confident of {len(mistakes):,} mistakes on {part} images"
    title = f"{legible(run)}: {counted} (class → prediction)"
    draw_images(take_colours(batches, chosen), captions, title, run.mistakes)


def take_colours(batches: Batches, positions: Tensor) -> Tensor:
    """Some of the images, unaugmented, as colours in 0…1: float32 (N, H, W, C)."""
    return Normalise().invert(batches.pixels(positions).permute(0, 3, 1, 2))
