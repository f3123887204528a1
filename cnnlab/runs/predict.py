"""`cnnlab predict`: what one trained network, or several together, say of images; a table and a submission.

Images pass by in chunks: decoded, cut to squares, normalised as in an evaluation, predicted by every network for every
view, appended to a file; all but the last by processes beside this one, unless another device computes. Stopped and
started again, it goes on from there.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnlab.data import Competition, Facts, Unlabelled
from cnnlab.data.chunks import SKIPPED, choose_chunk_size, map_chunks
from cnnlab.data.dataset import Pictures
from cnnlab.data.files import list_folder, say_passed_over
from cnnlab.data.pictures import OnBadImage, open_unlabelled, require_regular_picture
from cnnlab.data.resize import scale_shorter
from cnnlab.engine.views import Views, mean_of_views
from cnnlab.errors import ConfigError, DataError, Interrupted, format_list, printable
from cnnlab.progress import Progress
from cnnlab.runs.calibration import read_temperature
from cnnlab.runs.cells import COLUMNS, guard, title_scores
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.ensemble import Averaging, HeldOut, choose_thresholds, choose_weights, require_cuts, require_mixture
from cnnlab.runs.output import announce, check_output, require_replaceable
from cnnlab.runs.saved import read_saved
from cnnlab.runs.scores import Scores
from cnnlab.runs.submission import (
    Layout,
    Value,
    decide,
    format_number,
    format_submission,
    plan_submission,
    require_sound,
)
from cnnlab.runs.trained import Trained, load_trained

Crops = Literal["multicrop"]  # the four corners and the centre, mirrored too
MAX_PRINTED = 50  # rows of a table
LOOKED_AT = 20  # images, before many are predicted
ON_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Series:
    """The images to predict, and what is known of them beside."""

    images: Unlabelled
    source: str  # where they come from
    labels: Tensor | None = None  # as in an ImageSet
    paths: tuple[Path, ...] | None = None  # of labelled images that are files
    indices: tuple[int, ...] = ()  # of labelled images in what the dataset reads


def predict(
    paths: Sequence[str],
    *,
    views: Views | Crops = "none",
    average: Averaging = "probabilities",
    images: str | None = None,
    part: str | None = None,
    output: str | None = None,
    value: Value | None = None,
    calibrated: bool = False,
    on_bad_image: OnBadImage | None = None,
    weights: str | None = None,
    clip: float = 0.0,
    threshold: str | None = None,
) -> list[Path]:
    """Predict the images that the first run's dataset asks about, or `images` (a file or a folder), or a `part`.

    Several runs, or a cross-validation's folds, predict together: the mean of what each says, at its own temperature
    where they are to be `calibrated`, by their `weights` where such are given. Of a submission probabilities are kept
    `clip` away from 0 and 1, and a class is told where its probability is at least the `threshold`. Weights and
    threshold are numbers, with commas, or "fit": to images that were held out. Writes predictions.csv and, for what a
    competition asks about, submission.csv into the first run's directory, or predictions_images.csv or that of the
    part, and returns the files; with `output` the submission, or the table where there is none, is written there and
    nothing else. What happens to images that cannot be decoded is the first run's `dataset.on_bad_image`, unless it is
    given. Raises ConfigError for runs that do not go together, DataError for such images and for a submission that
    would be wrong; nothing is written then.
    """
    home = RunDirectory.open(paths[0])
    chosen = None if output is None else check_output(output)
    runs = [[load_trained(run) for run in find_members(path)] for path in paths]
    if calibrated:
        runs = [[replace(member, temperature=read_temperature(member)) for member in run] for run in runs]
    require_agreement([member for run in runs for member in run])
    first = runs[0][0]
    if weights == "fit":
        require_mixture(paths, first.facts, average)
    if threshold is not None:
        require_cuts(threshold, first.facts)
    held_out = [predict_held_out(run, views, average) for run in runs] if "fit" in (weights, threshold) else []
    if weights is not None:
        given = choose_weights(paths, weights, held_out)
        runs = [weigh_members(run, weight) for run, weight in zip(runs, given, strict=True)]
    members = [member for run in runs for member in run]
    if part is not None:
        require_same_part(members, part)
    series, competition = choose_series(first, images, part)
    if views == "multicrop":
        require_margins(members, series.images)
    if value is not None and competition is None:
        competition = Competition(value)
    if value is not None and (images is not None or part is not None):
        raise ConfigError(f"--format {value}: is for a submission, and --images and --part make a table")
    thresholds = None
    if threshold is not None:
        thresholds = choose_thresholds(
            paths, threshold, first.facts, held_out, [run[0].weight * len(run) for run in runs], average
        )
    layout = None
    if competition is not None:
        layout = plan_submission(first.facts, competition, series.images.ids, value, clip, thresholds)
    elif clip:
        raise ConfigError(f"--clip {clip:g}: is for a submission, and --images and --part make a table")
    skip = (on_bad_image or first.config.dataset.arguments.get("on_bad_image")) == "skip"
    subject = {**describe_subject(members, series, views, average), "skip": skip}
    chunk = choose_chunk_size(find_framings(members), views == "multicrop")
    asked = "images" if images is not None else part  # None: what the dataset asks about
    predictions = home.predictions if asked is None else home.predictions.with_name(f"predictions_{asked}.csv")
    files = name_files(predictions, home.submission if layout else None, chosen)
    for file in (home.scores, *files):
        require_replaceable(file)
    with home.locked(home.scores, "predicting"):
        scores = Scores(home.scores, subject, len(first.facts.classes), chunk)
        fill(scores, members, series.images, views, average, skip)
        table = scores.read()
        kept = np.flatnonzero(~find_skipped(table))
        require_sound(first.facts, [series.images.ids[index] for index in kept], table[kept])
        write_files(home, files, first.facts, series, table, layout, thresholds)
        home.scores.unlink()
    return files


# --- Networks -----------------------------------------------------------------------------------------


def find_members(path: str) -> list[RunDirectory]:
    """The run itself, or those of its folds where it is a cross-validation."""
    run = RunDirectory.open(path)
    num_runs = read_saved(run).num_runs
    return [run] if num_runs == 1 else [RunDirectory.open(run.fold(number).path) for number in range(num_runs)]


def require_agreement(members: Sequence[Trained]) -> None:
    """Raises ConfigError naming every difference between networks that are to predict together."""
    first, *others = members
    problems = []
    for other in others:
        for fact in ("task", "classes", "channels"):
            ours, theirs = getattr(first.facts, fact), getattr(other.facts, fact)
            if ours != theirs:
                problems.append(
                    f"{fact} of {other.run}: {describe_difference(theirs, ours)}; "
                    f"runs that predict together have the same as the first, {first.run}"
                )
    if problems:
        raise ConfigError(problems)


def require_same_part(members: Sequence[Trained], part: str) -> None:
    """Raises ConfigError unless a part is of the same images for all networks: one may have trained on another's."""
    first, *others = members
    known = [member.run.read_json(member.run.dataset).get("fingerprints") or {} for member in members]
    for other, own in zip(others, known[1:], strict=True):
        if own.get(part) != known[0].get(part):
            raise ConfigError(
                f"--part {part}: {other.run} has other {part} images than {first.run}, and may have trained on these; "
                "expected runs of one split, or one fold of a cross-validation, whose out_of_fold.csv has predictions "
                "of each image by the network that did not train on it"
            )


def require_margins(members: Sequence[Trained], images: Unlabelled) -> None:
    """Raises ConfigError where nothing is beside the centre of the first images: five crops would be one."""
    for framing in find_framings(members):
        shown = [images.open(index, framing.shorter) for index in range(min(LOOKED_AT, len(images)))]
        if all(picture.shape[:2] == (framing.size, framing.size) for picture in shown):
            raise ConfigError(
                f"--tta multicrop: the images are squares of {framing.size} pixels, as the network reads them, so that "
                "their corners are their centre; expected --tta flip, or a run with a larger dataset.resize"
            )


def describe_difference(theirs: Any, ours: Any) -> str:
    """Two facts, or what one of two tuples of classes has and the other lacks."""
    if not isinstance(ours, tuple):
        return f"{theirs}, not {ours}"
    added, lacking = sorted({*theirs} - {*ours}), sorted({*ours} - {*theirs})
    if not added and not lacking:
        return "the same in another order"
    return f"{len(theirs)}, not {len(ours)}: has {shorten(added)}, lacks {shorten(lacking)}"


def shorten(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:3])) + (", …" if len(names) > 3 else "") if names else "none"


def find_framings(members: Sequence[Trained]) -> list:
    """How pictures are cut for the members, each way once."""
    return list(dict.fromkeys(member.framing for member in members))


# --- Images -------------------------------------------------------------------------------------------


def choose_series(first: Trained, images: str | None, part: str | None) -> tuple[Series, Competition | None]:
    """What to predict, and the competition that asks for it. Raises ConfigError where there is nothing, DataError."""
    if images is not None and part is not None:
        raise ConfigError("--images, --part: both were given; expected one of them")
    if images is not None:
        return list_images(Path(images), grey=first.facts.channels == 1), None
    if part is not None:
        return read_part(first, part), None
    dataset = first.dataset
    if dataset.unlabelled is None:
        raise ConfigError(
            f"{first.run}: its dataset, {first.config.dataset.name}, has no images without labels; "
            "expected --images FOLDER_OR_FILE or --part test"
        )
    return Series(dataset.unlabelled(), f"unlabelled images of {first.config.dataset.as_yaml()}"), dataset.competition


def list_images(path: Path, grey: bool) -> Series:
    """A picture, or all of those in a folder and below it, called by their path from there."""
    if path.is_dir():
        listing = list_folder(path, below=True)
        say_passed_over(path, listing)
        names = listing.pictures
        found = tuple(path / name for name in names)
    elif path.exists():
        require_regular_picture(path)
        found, names = (path,), (path.name,)
    else:
        found, names = (), ()
    if not found:
        there = "no picture there" if path.exists() else "is not there"
        raise DataError(f"--images {path}: {there}; expected a picture or a folder of pictures")
    return Series(open_unlabelled(Pictures(found, names), grey), f"pictures of {path.resolve()}")


def read_part(first: Trained, part: str, problem: str | None = None) -> Series:
    """The labelled images of a part of the first run's dataset, called as the dataset calls them.

    Raises ConfigError where there is no such part, with the `problem` that this is, if one is given.
    """
    parts = first.read_parts(ON_CPU)  # where processes beside this one can take them
    if part not in parts:
        expected = f"expected one of {', '.join(sorted(parts))}"
        raise ConfigError(problem or f"--part {part}: this run has no such images; {expected}")
    chosen = parts[part]
    indices = tuple(chosen.indices.tolist())
    images, files = chosen.images.store, chosen.images.files

    def open_scaled(index: int, shorter: int) -> np.ndarray:
        return scale_shorter(images[indices[index]], shorter)

    return Series(
        Unlabelled(tuple(chosen.images.name(indices)), open_scaled),
        f"{part} images of {first.config.dataset.as_yaml()}",
        chosen.labels,
        None if files is None else files.select(indices).paths,
        indices,
    )


# --- Predictions ------------------------------------------------------------------------------------------


def describe_subject(
    members: Sequence[Trained], series: Series, views: Views | Crops, average: Averaging
) -> dict[str, Any]:
    """What is predicted by what and how: scores of another subject are no scores of this one."""
    return {
        "networks": [member.identify() for member in members],
        "temperatures": [member.temperature for member in members],
        "weights": [member.weight for member in members],
        "views": views,
        "average": average,
        "source": series.source,
        "images": len(series.images),
        "ids": hashlib.sha256("\n".join(series.images.ids).encode("utf-8", "surrogateescape")).hexdigest(),
    }


def fill(
    scores: Scores,
    members: Sequence[Trained],
    images: Unlabelled,
    views: Views | Crops,
    average: Averaging,
    skip: bool,
) -> None:
    """Predict the images that have no scores yet, with a bar on a terminal. Raises Interrupted on Ctrl-C."""
    if len(scores):
        print(f"going on after {len(scores):,} of {len(images):,} images")
    try:
        with Progress("predicting images", len(images), len(scores)) as progress:
            for rows in predict_in_chunks(members, images, views, average, start=len(scores), skip=skip):
                scores.append(rows)
                progress.update(len(rows))
    except KeyboardInterrupt:
        print(f"stopped after {len(scores):,} of {len(images):,} images; the same command goes on from there")
        raise Interrupted(signal.SIGINT) from None


def predict_in_chunks(
    members: Sequence[Trained],
    images: Unlabelled,
    views: Views | Crops = "none",
    average: Averaging = "probabilities",
    start: int = 0,
    *,
    skip: bool = False,
) -> Iterator[np.ndarray]:
    """Scores (N, classes or targets) of chunk after chunk, float64: probabilities, or the numbers of a regression.

    Images that cannot be decoded are `SKIPPED` or, without `skip`, a DataError.
    """
    framings = find_framings(members)

    def predict_crops(crops: list[np.ndarray]) -> np.ndarray:
        pixels = map(torch.from_numpy, crops)
        return average_views(members, dict(zip(framings, pixels, strict=True)), views, average).numpy()

    on_cpu = all(member.network.device.type == "cpu" for member in members)
    corners, num_scores = views == "multicrop", len(members[0].facts.classes)
    return map_chunks(predict_crops, images, framings, corners, start, beside=on_cpu, skip=skip, num_scores=num_scores)


def average_views(members: Sequence[Trained], crops: dict, views: Views | Crops, average: Averaging) -> Tensor:
    """The mean of all members over all views of some images: of their probabilities, or of their logits.

    Each member counts by its weight, each of its crops as much as another. `crops`: for each framing uint8
    (N, crops, size, size, C). Returns float64 (N, scores).
    """
    to_scores = members[0].facts.task.to_scores
    each = to_scores if average == "probabilities" else Tensor.double
    found = []
    for member in members:
        each_views = "flip" if views == "multicrop" else views
        of_crops = [member.map_views(pixels, each_views, each) for pixels in crops[member.framing].unbind(1)]
        found.append(torch.stack([mean_of_views(of_crop, each_views) for of_crop in of_crops]).mean(0))
    weights = torch.tensor([member.weight for member in members], dtype=torch.float64)
    mean = torch.einsum("m,mns->ns", weights / weights.sum(), torch.stack(found))
    return to_scores(mean) if average == "logits" else mean


# --- What is fitted to images that were held out ----------------------------------------------------------


def predict_held_out(members: Sequence[Trained], views: Views | Crops, average: Averaging) -> HeldOut:
    """The validation images of a run, or of all folds, in the order of the dataset. Raises ConfigError, DataError."""
    wanted = "has no validation images to fit to; expected numbers, or runs with some (split.valid=0.1)"
    parts = [read_part(member, "valid", f"fit: {member.run} {wanted}") for member in members]
    scores = [
        np.concatenate(list(predict_in_chunks([member], part.images, views, average)))
        for member, part in zip(members, parts, strict=True)
    ]
    order = np.argsort([index for part in parts for index in part.indices], kind="stable").tolist()
    names = [name for part in parts for name in part.images.ids]
    labels = torch.cat([part.labels for part in parts if part.labels is not None]).cpu().numpy()
    return HeldOut([names[index] for index in order], np.concatenate(scores)[order], labels[order])


def weigh_members(members: Sequence[Trained], weight: float) -> list[Trained]:
    """The folds of a cross-validation share its weight."""
    return [replace(member, weight=float(weight) / len(members)) for member in members]


# --- Files --------------------------------------------------------------------------------------------


def name_files(predictions: Path, submission: Path | None, chosen: Path | None) -> list[Path]:
    """The files to write: the one that the user has `chosen`, or the table and, where there is one, the submission."""
    if chosen is not None:
        return [chosen]
    return [predictions] if submission is None else [predictions, submission]


def write_files(
    home: RunDirectory,
    files: Sequence[Path],
    facts: Facts,
    series: Series,
    scores: np.ndarray,
    layout: Layout | None,
    thresholds: tuple[float, ...] | None,
) -> None:
    """The table of predictions and after it, if there is a layout for it, the submission; or the submission alone."""
    for file in files:
        announce(file)
    skipped = find_skipped(scores)
    if skipped.any():
        series, scores = leave_out(series, scores, skipped, layout is not None)
    kept = scores[~skipped]
    if layout is None or len(files) == 2:
        home.write_csv(files[0], format_table(facts, series, kept, thresholds))
    if layout is None:
        print_table(facts, series, kept, thresholds)
    else:
        home.write_csv(files[-1], format_submission(layout, scores))


def find_skipped(scores: np.ndarray) -> np.ndarray:
    """Which images could not be decoded, bool (N,)."""
    return (scores == SKIPPED).all(1)


def leave_out(series: Series, scores: np.ndarray, skipped: np.ndarray, is_submitted: bool) -> tuple[Series, np.ndarray]:
    """The series without images that could not be decoded, and scores in which they have the mean of the others.

    A submission has to have a row for each. Raises DataError where no other is there.
    """
    ids = np.array(series.images.ids, dtype=object)
    if skipped.all():
        raise DataError(f"{series.source}: none of {len(scores):,} can be decoded; expected pictures")
    filled = "; in the submission they have the mean of the others' scores" if is_submitted else ""
    print(f"{format_list('pictures left out, they cannot be decoded', ids[skipped])}{filled}", file=sys.stderr)
    scores = np.where(skipped[:, None], scores[~skipped].mean(0), scores)
    return replace(series, images=replace(series.images, ids=tuple(ids[~skipped]))), scores


def format_table(
    facts: Facts, series: Series, scores: np.ndarray, thresholds: tuple[float, ...] | None = None
) -> Iterator[list[str]]:
    """Header and rows: the image's id, its label if that is known, what is predicted, the score of each class.

    Of labelled images that are files the path stands after the id. For regression the row is the id, the numbers that
    are known, the numbers that are predicted.
    """
    is_number = not facts.task.has_probabilities
    known: list[list[str]] = [[]] * len(scores)
    titles: list[str] = []
    if series.labels is not None and is_number:
        titles = [f"label_{name}" for name in facts.classes]
        known = [[format_number(value) for value in row] for row in series.labels.tolist()]
    elif series.labels is not None:
        titles = ["label"]
        labels = series.labels.long().tolist()
        known = [[guard(facts.name(tuple(label) if isinstance(label, list) else label))] for label in labels]
    if series.paths is not None:
        titles = ["path", *titles]
        known = [[guard(str(path)), *labels] for path, labels in zip(series.paths, known, strict=True)]
    columns = title_scores(facts.classes, {*COLUMNS, *titles})
    yield ["id", *map(guard, titles), *([] if is_number else ["prediction"]), *columns]
    for name, labels, numbers in zip(series.images.ids, known, scores, strict=True):
        prediction = [] if is_number else [guard(facts.name(decide(facts, numbers, thresholds)))]
        yield [guard(name), *labels, *prediction, *map(format_number, numbers.tolist())]


def print_table(facts: Facts, series: Series, scores: np.ndarray, thresholds: tuple[float, ...] | None = None) -> None:
    """A line for each of the first images: what it is called, what is predicted, and how sure."""
    names = [printable(name) for name in series.images.ids[:MAX_PRINTED]]
    width = max(map(len, names))
    for name, numbers in zip(names, scores, strict=False):
        told = " ".join(f"{number:.4f}" for number in numbers)
        if facts.task.has_probabilities:
            label = decide(facts, numbers, thresholds)
            certainty = f"{numbers[label]:.4f}" if isinstance(label, int) else told
            told = f"{printable(facts.name(label))}  {certainty}"
        print(f"{name:{width}}  {told}")
    if len(scores) > MAX_PRINTED:
        print(f"… and {len(scores) - MAX_PRINTED:,} more")
