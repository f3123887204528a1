"""Each reader of what lies in a run directory on whatever bytes: what it promises, or an error of cnnlab's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnlab.data.tables import read_csv
from cnnlab.errors import CnnlabError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.saved import read_trusted, state_file
from cnnlab.runs.scores import Scores
from tests.data.damage import FEW, MANY, damage

SUBJECT = {"networks": ["a"], "images": 4}
ROWS = [
    {"epoch": epoch, "step": 21 * epoch, "train_loss": 1 / epoch, "valid_loss": None, "seconds": 0.1}
    for epoch in range(1, 9)
]
# Bytes, and text of the characters that mean something to the formats.
CONTENTS = st.binary(max_size=300) | st.text("0123456789.eE-+,:;{}[]\"'\n\r \t\0é&*!|>%@#", max_size=300).map(
    str.encode
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return RunDirectory(tmp_path_factory.mktemp("run"))


@given(content=CONTENTS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(run, content):
    for path in (run.config, run.overrides, run.summary, run.metrics, run.scores):
        path.write_bytes(content)
    state_file().parent.mkdir(parents=True, exist_ok=True)
    state_file().write_bytes(content)
    for read, kind in (
        (run.read_config, dict),
        (run.read_overrides, list),
        (lambda: run.read_json(run.summary), dict),
        (run.read_metrics, list),
        (read_trusted, list),
        (lambda: read_csv(run.metrics)[1], list),
        (lambda: Scores(run.scores, SUBJECT, 2, chunk=2).read(), np.ndarray),
    ):
        try:
            assert isinstance(read(), kind)
        except CnnlabError:
            continue
    assert all(str(run.path) in str(error) for error in tell_errors(run))


def tell_errors(run: RunDirectory) -> list[CnnlabError]:
    """What the readers raise, who all name the file."""
    errors = []
    for read in (run.read_config, lambda: run.read_json(run.summary)):
        try:
            read()
        except CnnlabError as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize("num", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_damaged_metrics_are_rows_as_they_were_written_up_to_the_damage(run, num):
    """Or rows of numbers: the file has no checksum, and a digit may be another. A checkpoint knows its last row."""
    run.write_metrics(ROWS)
    content = run.metrics.read_bytes()
    for changed in damage(content, num):
        run.metrics.write_bytes(changed)
        rows = run.read_metrics()
        whole = changed[: len(content)].rpartition(b"\n")[0]
        if content.startswith(whole):  # cut off, or longer: nothing else has changed
            num_whole = max(0, whole.count(b"\n"))
            assert rows[:num_whole] == ROWS[:num_whole]
        for row in rows:
            assert all(value is None or isinstance(value, (int, float)) for value in row.values())


def test_a_name_that_ends_inside_is_no_run():
    with pytest.raises(CnnlabError, match="no run here"):
        RunDirectory.open(Path("a\0b"))
