"""Names in pictures: of any letters, without a warning."""

from __future__ import annotations

import warnings

import pytest
import torch

from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.plots import draw_confusion, draw_rates, legible

NAMES = ("猫", "🐕 dog", "a$b$c", r"$\foo$", "\x1b[31mred", "x" * 255, "_hidden", "\u202eevil", "a\nb", "Ω ≤ é")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat Ω é", "cat Ω é"),
        ("猫", r"\u732b"),
        ("🐕 dog", r"\U0001f415 dog"),
        ("a$b$", r"a\$b\$"),
        ("\x1b[31m", r"\x1b[31m"),
        ("x" * 100, "x" * 30 + "…" + "x" * 30),
    ],
)
def test_names_as_they_are_drawn(name, shown):
    assert legible(name) == shown


def test_classes_of_any_name_are_drawn_without_a_warning(tmp_path):
    run = RunDirectory(tmp_path / "猫 $x$")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(run, "test", torch.eye(len(NAMES), dtype=torch.long), NAMES)
        draw_rates({name: ([0, 1], [0.1, 0.2]) for name in NAMES}, tmp_path / "rates.png")
    assert run.confusion.stat().st_size > 1000 and (tmp_path / "rates.png").stat().st_size > 1000
