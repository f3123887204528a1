"""A bar for people at a terminal, lines for a file."""

from __future__ import annotations

import sys

from cnnlab import progress
from cnnlab.progress import Progress


def test_in_a_file_there_is_a_line_now_and_then_and_no_bar(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress("packing pictures", 5000, done=1000) as some:
        for _ in range(3):
            some.update(500)
    assert capsys.readouterr().err == "packing pictures: 2,000 of 5,000\n"


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("packing pictures", 5) as some:
        some.update(5)
    told = capsys.readouterr().err
    assert "packing pictures:   0%" in told and "\n" not in told
