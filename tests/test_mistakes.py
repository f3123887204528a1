"""Whatever is mistyped is told by name, with an exit code for it; nothing falls over, and nothing is left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cnnlab.cli import main
from tests.mistakes import all_mistakes

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
