"""`cnnlab submit-check`: any submission, whoever wrote it, by the competition's rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cnnlab.composition import compose
from cnnlab.data.tables import read_csv
from cnnlab.errors import ConfigError, printable
from cnnlab.experiment.dataset import build_dataset
from cnnlab.runs.submission import Value, find_mistakes, require_format


def check_submission(path: str, overrides: list[str], config_dirs: list[str], value: Value | None = None) -> bool:
    """Print whether a file is what the dataset's competition wants, with all that is wrong; whether nothing is.

    Raises ConfigError for a dataset that asks about no images, DataError for one that is not there.
    """
    config = compose(overrides, config_dirs)
    dataset = build_dataset(config)
    competition = dataset.competition
    if competition is None:
        raise ConfigError(f"dataset {config.dataset.name}: asks about no images; expected a competition's")
    competition = replace(competition, value=value or competition.value)
    require_format(dataset.facts, competition.value)
    ids: tuple[str, ...] | None = None
    if competition.sample is not None:
        ids = tuple(row[0].strip() for _, row in read_csv(competition.sample)[1])
    elif dataset.unlabelled is not None:
        ids = dataset.unlabelled().ids
    problems = find_mistakes(Path(path), dataset.facts, competition, ids)
    asked = "ids are not checked, there are none to hold them against" if ids is None else f"{len(ids):,} ids"
    if problems:
        print(f"{printable(path)}: is no submission to {config.dataset.name} ({competition.value}; {asked})")
        print("\n".join(f"  - {problem}" for problem in problems))
    else:
        print(f"{printable(path)}: is a submission to {config.dataset.name} ({competition.value}; {asked})")
    return not problems
