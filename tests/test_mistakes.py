"""Whatever is mistyped is told by name, with an exit code for it; nothing falls over, and nothing is left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cnnlab.cli import main
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from tests.conftest import small_config
from tests.mistakes import CHANGES, TAKING_CHANGES, all_mistakes

SAMPLE = 60  # of the mistakes, in the quick suite
MISTAKES = all_mistakes()
QUICK = set(random.Random(3).sample(sorted(MISTAKES), SAMPLE))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MISTAKES]
)
def test_a_mistake_is_told(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(MISTAKES[name].arguments)
    except SystemExit as end:  # argparse's way
        code = end.code
    err = capsys.readouterr().err
    assert code in (1, 2, 3), (code, err)
    assert err.strip() and "Traceback" not in err
    assert MISTAKES[name].named in err
    assert list(Path().iterdir()) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return start(small_config(tmp_path_factory.mktemp("run"), "model=linear"), [])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("command", TAKING_CHANGES)
def test_a_change_of_a_run_that_is_none_is_told(run, command, change, capsys):
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    try:
        code = main([command, str(run), change])
    except SystemExit as end:
        code = end.code
    err = capsys.readouterr().err
    assert code == 2 and "Traceback" not in err
    assert change.partition("=")[0].partition(".")[0].partition("[")[0] in err
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
