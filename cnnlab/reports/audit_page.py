"""`cnnlab audit`: labels that look wrong, and near-twins within and across parts: two tables, and a page to look at.

Labels are judged by networks that did not train on the images: those of validation and test, or of a cross-validation
every training image, each by the fold that held it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnlab.data import Facts
from cnnlab.data.batches import Batches
from cnnlab.data.twins import AT_ONCE, MAX_COMPARED, Twins, find_twins
from cnnlab.errors import ConfigError, printable
from cnnlab.reports.page import Table, encode, render, write_page
from cnnlab.runs.cells import guard
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.label_errors import LabelErrors, find_label_errors
from cnnlab.runs.output import announce
from cnnlab.runs.predict import find_members
from cnnlab.runs.trained import Trained, load_trained
from cnnlab.tasks import MULTILABEL

MAX_SHOWN = 120  # suspects with a picture
MAX_PAIRS = 60  # twins with pictures
NOT_JUDGED = "labels: only those of one class an image are judged, and this run is of a {} problem"


@dataclass(frozen=True)
class Judged:
    """Labelled images, and what a network says of them that has not trained on them."""

    sources: list[tuple[str, Batches, Tensor]]  # the part's name, its images, positions in it
    probabilities: Tensor  # float64 (N, classes)
    labels: Tensor  # int64 (N,)

    @property
    def agreement(self) -> float:
        """The share of the labels that are the networks' own choice; the less it is, the more right ones look wrong."""
        return (self.probabilities.argmax(1) == self.labels).double().mean().item()

    def locate(self, position: int) -> tuple[str, Batches, int]:
        """The part of an image, and where it stands there."""
        for part, batches, positions in self.sources:
            if position < len(positions):
                return part, batches, int(positions[position])
            position -= len(positions)
        raise AssertionError("a position of an image")


def audit(path: str, overrides: Sequence[str] = ()) -> list[Path]:
    """Write audit.csv, twins.csv and audit.html of a run, or of a cross-validation; returns the files.

    Raises ConfigError for a run that holds no image back.
    """
    home = RunDirectory.open(path)
    members = [load_trained(run, overrides=overrides) for run in find_members(path)]
    first, is_whole = members[0], len(members) > 1
    classes = [printable(name) for name in first.facts.classes]
    judged = judge(members) if first.facts.task.has_classes else None
    errors = find_label_errors(judged.probabilities, judged.labels) if judged else None
    parts = first.read_parts()
    compared = {"all folds": join_folds(parts)} | keep(parts, "test") if is_whole else parts
    if not next(iter(parts.values())).images.holds_pixels:
        compared = {}
    twins, names = compare(compared)
    files = [home.audit, home.twins, home.audit_page]
    for file in files:
        announce(file)
    home.write_csv(home.audit, list_errors(judged, errors, first.facts.classes) if judged and errors else [["part"]])
    home.write_csv(home.twins, list_twins(twins, names, compared, first.facts))
    write_page(home.audit_page, show(home, judged, errors, twins, names, compared, classes, first.facts))
    if judged is not None and errors is not None:
        told = f"to networks that agree with {judged.agreement:.1%} of them"
        print(f"{errors.num_suspects:,} of {len(errors.ranking):,} labels look wrong, {told}")
    else:
        print(NOT_JUDGED.format(first.facts.task))
    print(f"{len(twins):,} pairs of near-twins, {sum(crosses(pair, names) for pair in twins):,} of them in two parts")
    return files


# --- Labels -------------------------------------------------------------------------------------------


def judge(members: Sequence[Trained]) -> Judged:
    """What networks say of images that they have not trained on. Raises ConfigError where there are none."""
    sources, probabilities, labels = [], [], []
    for member in members:
        parts = member.read_parts()
        held_out = ["valid"] if len(members) > 1 else [part for part in ("valid", "test") if part in parts]
        if not held_out:
            raise ConfigError(
                f"{member.run}: has trained on all of its images, and so cannot judge their labels; expected a run "
                "with validation or test images, or a cross-validation: cnnlab train folds=5"
            )
        for part in held_out:
            batches = parts[part].in_order()
            name = f"fold {member.config.fold}" if len(members) > 1 else part
            sources.append((name, batches, torch.arange(batches.num_examples)))
            probabilities.append(member.facts.task.to_scores(member.compute_outputs(batches)))
            labels.append(batches.labels.cpu())
    return Judged(sources, torch.cat(probabilities), torch.cat(labels))


def list_errors(judged: Judged, errors: LabelErrors, classes: Sequence[str]) -> list[list[Any]]:
    """audit.csv: every judged image, the likeliest error first."""
    rows: list[list[Any]] = [["part", "id", "path", "label", "suggested", "suspect", "p_label", "p_suggested"]]
    for position in errors.ranking.tolist():
        part, batches, place = judged.locate(position)
        label, suggested = int(judged.labels[position]), int(errors.suggested[position])
        p = judged.probabilities[position]
        rows.append(
            [part, guard(batches.names([place])[0]), guard(find_path(batches, place)), guard(classes[label])]
            + [guard(classes[suggested]), "yes" if errors.is_suspect[position] else "no"]
            + [f"{float(value):.6g}" for value in (p[label], p[suggested])]
        )
    return rows


def find_path(batches: Batches, place: int) -> str:
    """The file of an image; empty where it is none."""
    files = batches.images.files
    return "" if files is None else str(files.paths[int(batches.indices[place])])


def encode_image(batches: Batches, place: int) -> str:
    (pixels,) = batches.pixels(torch.tensor([place]))
    return encode(pixels.cpu().numpy())


# --- Twins --------------------------------------------------------------------------------------------


def join_folds(parts: dict[str, Batches]) -> Batches:
    """The images of a cross-validation: those that one fold trains on, and those that it holds out."""
    train, valid = parts["train"].in_order(), parts["valid"]
    return Batches(train.images, torch.cat([train.indices, valid.indices]), train.batch_size, train.normalise)


def keep(parts: dict[str, Batches], *names: str) -> dict[str, Batches]:
    return {name: parts[name] for name in names if name in parts}


def compare(parts: dict[str, Batches]) -> tuple[list[Twins], list[tuple[str, int]]]:
    """All twins by position, and the part of each position and its place there. Raises ConfigError for too many."""
    names = [(part, place) for part, batches in parts.items() for place in range(batches.num_examples)]
    if len(names) > MAX_COMPARED:
        raise ConfigError(
            f"audit: compares each of {len(names):,} images with all others; expected at most {MAX_COMPARED:,}"
        )
    pieces = (
        batches.pixels(places)
        for batches in parts.values()
        for places in torch.arange(batches.num_examples).split(AT_ONCE)
    )
    return find_twins(pieces), names


def crosses(pair: Twins, names: Sequence[tuple[str, int]]) -> bool:
    """Whether twins lie in two parts: then one of them tells about the other."""
    return names[pair.first][0] != names[pair.second][0]


def list_twins(
    twins: Sequence[Twins], names: Sequence[tuple[str, int]], parts: dict[str, Batches], facts: Facts
) -> list[list[Any]]:
    """twins.csv: a row a pair, the most alike first."""
    columns = ("part", "id", "path", "label")
    rows: list[list[Any]] = [["similarity", *(f"{c}_1" for c in columns), *(f"{c}_2" for c in columns)]]
    for pair in twins:
        row: list[Any] = [f"{pair.similarity:.4f}"]
        for position in (pair.first, pair.second):
            part, place = names[position]
            batches = parts[part]
            row += [part, guard(batches.names([place])[0]), guard(find_path(batches, place))]
            row.append(guard(tell_label(batches, place, facts)))
        rows.append(row)
    return rows


def tell_label(batches: Batches, place: int, facts: Facts) -> str:
    label = batches.images.labels[int(batches.indices[place])]
    if facts.task.has_classes:
        return facts.name(int(label))
    if facts.task is MULTILABEL:
        return facts.name(tuple(map(int, label.tolist())))
    return " ".join(f"{n:g}" for n in label.tolist())


# --- The page -----------------------------------------------------------------------------------------


def show(
    home: RunDirectory,
    judged: Judged | None,
    errors: LabelErrors | None,
    twins: Sequence[Twins],
    names: Sequence[tuple[str, int]],
    parts: dict[str, Batches],
    classes: Sequence[str],
    facts: Facts,
) -> str:
    suspects, pairs = [], None
    if judged is not None and errors is not None:
        for position in errors.ranking[errors.is_suspect[errors.ranking]][:MAX_SHOWN].tolist():
            part, batches, place = judged.locate(position)
            label, suggested = int(judged.labels[position]), int(errors.suggested[position])
            p = judged.probabilities[position]
            told = f"{classes[label]} ({p[label]:.1%})? rather {classes[suggested]} ({p[suggested]:.1%})"
            name = f"{part} {printable(batches.names([place])[0])}"
            suspects.append((encode_image(batches, place), f"{told}, {name}", name))
        pairs = tabulate_pairs(judged, errors, classes)
    shown = []
    for pair in sorted(twins, key=lambda pair: -crosses(pair, names))[:MAX_PAIRS]:
        both = []
        for position in (pair.first, pair.second):
            part, place = names[position]
            picture = encode_image(parts[part], place)
            name = f"{part} {printable(parts[part].names([place])[0])}"
            told = f"{pair.similarity:.1%} alike: {name}, {printable(tell_label(parts[part], place, facts))}"
            both.append((picture, told, name))
        shown.append(both)
    return render(
        "audit.html",
        [],
        {},
        title=f"Audit of {'/'.join(home.path.resolve().parts[-2:])}",
        subtitle=f"All of it in {home.audit.name} and {home.twins.name}",
        num_suspects=errors.num_suspects if errors else None,
        num_judged=len(errors.ranking) if errors else 0,
        agreement=f"{judged.agreement:.1%}" if judged else None,
        judged_parts=", ".join(part for part, _, _ in judged.sources) if judged else "",
        suspects=suspects,
        pairs=pairs,
        num_twins=len(twins),
        num_crossing=sum(crosses(pair, names) for pair in twins),
        twins=shown,
        missing=[] if judged else [NOT_JUDGED.format(facts.task)],
    )


def tabulate_pairs(judged: Judged, errors: LabelErrors, classes: Sequence[str]) -> Table:
    """How often each class seems to be labelled as each other: where labelling went wrong."""
    counts: dict[tuple[int, int], int] = {}
    for position in errors.is_suspect.nonzero().flatten().tolist():
        pair = int(judged.labels[position]), int(errors.suggested[position])
        counts[pair] = counts.get(pair, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return Table(("label", "seems to be", "images"), [[classes[a], classes[b], number] for (a, b), number in ranked])
