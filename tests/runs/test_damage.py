"""Whatever happens to the files of a run directory is told, or does no harm: never a traceback, never other numbers."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from cnnlab.cli import main
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from tests.conftest import small_config
from tests.runs.damage import all_damages
from tests.runs.test_resume import metrics

SAMPLE = 24  # of the damages, for each command, in the quick suite
NAMES = sorted(all_damages(Path()))
QUICK = set(random.Random(1).sample(NAMES, SAMPLE))


def parametrize():
    return pytest.mark.parametrize(
        "damage", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("whole"), "engine.checkpoint_every=10 steps"), [])


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("other"), "model=two_conv", "dataset.image_size=16"), [])


@pytest.fixture
def spoiled(whole, other, tmp_path, damage) -> RunDirectory:
    shutil.copytree(whole.path, tmp_path / "run")
    all_damages(other.path)[damage](tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def told(code: int, err: str) -> bool:
    """A message of cnnlab's, with a code for what is wrong."""
    return code in (2, 3, 5, 6) and any(line.startswith("cnnlab: ") for line in err.splitlines())


@parametrize()
def test_an_evaluation_gives_the_right_numbers_or_says_what_is_wrong(whole, spoiled, capsys):
    code = main(["evaluate", str(spoiled.path), "--json"])
    out, err = capsys.readouterr()
    if code == 0:
        found, expected = json.loads(out), whole.read_json(whole.summary)["test"]
        if "last.pt" not in found["checkpoint"]:  # which is what is used where nothing says that another was chosen
            assert {name: found[name] for name in expected} == expected
    else:
        assert told(code, err), err


@parametrize()
def test_a_resumed_run_ends_as_it_would_have_or_says_what_is_wrong(whole, spoiled, capsys):
    before = spoiled.path / "summary.json"
    earned = before.read_bytes() if before.is_file() else None
    code = main(["resume", str(spoiled.path)])
    _, err = capsys.readouterr()
    if code == 0:
        summary = spoiled.read_json(spoiled.summary)
        assert summary["status"] == "completed"
        assert summary["test"] == whole.read_json(whole.summary)["test"]
        assert metrics(spoiled) == metrics(whole)
    else:
        assert told(code, err), err
        if earned is not None and b'"test"' in earned and before.is_file():
            assert b'"test"' in before.read_bytes()


@parametrize()
def test_a_prediction_is_the_right_one_or_says_what_is_wrong(whole, spoiled, capsys):
    code = main(["predict", str(spoiled.path), "--part", "test"])
    _, err = capsys.readouterr()
    predictions = spoiled.path / "predictions_test.csv"
    if code == 0:
        assert predictions.read_text().count("\n") == 360
    else:
        assert told(code, err), err
        assert not predictions.exists()


@parametrize()
def test_other_commands_do_not_fall_over_it(spoiled, capsys):
    for command in (["inspect", str(spoiled.path)], ["reproduce", str(spoiled.path), "epochs=1"]):
        code = main(command)
        _, err = capsys.readouterr()
        assert code in (0, 1) or told(code, err), err
