"""Every file of the package that is a lesson stands in the course, and every lesson is a whole page."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import cnnlab.lessons
from cnnlab.errors import ConfigError
from cnnlab.lessons.course import COURSE, find_lesson
from cnnlab.lessons.pictures import save_picture
from cnnlab.lessons.view import render

FOLDER = Path(cnnlab.lessons.__file__).parent
MACHINERY = {"__init__", "__main__", "command", "course", "pages", "pictures", "seeded", "view"}


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_files_and_course_name_the_same_lessons():
    assert {path.stem for path in FOLDER.glob("*.py")} - MACHINERY == set(COURSE)


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_a_lesson_is_a_whole_page_and_pure(lesson, tmp_path):
    assert lesson.title and not lesson.title.endswith(".")
    assert len(lesson.about) > 200
    for mark in ("Question:", "Answer:", "On real data:", "    cnnlab "):
        assert lesson.ending.count(mark) >= 1, mark
    # A page must be read in one sitting.
    assert len(lesson.source.splitlines()) <= 140

    state = torch.random.get_rng_state()
    start = time.perf_counter()
    values = lesson.module.compute()
    assert time.perf_counter() - start < 5
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's randomness was used"
    printed: dict = {"__name__": "printed"}
    exec(compile(lesson.code, lesson.name, "exec"), printed)
    assert equal(values, printed["compute"]()), "--code, run by itself, gave other values"
    assert "def show" not in lesson.code

    assert render(lesson.module.show(values)).strip()
    if lesson.has_picture:
        save_picture(lesson.module.draw, values, tmp_path / "picture.svg")
        assert (tmp_path / "picture.svg").stat().st_size > 1000


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_lessons_import_nothing_of_cnnlab_but_errors_signature_and_lessons(lesson):
    imported = [line.split()[1] for line in lesson.source.splitlines() if line.startswith(("from ", "import "))]
    ours = [name for name in imported if name.startswith("cnnlab")]
    assert all(name.startswith(("cnnlab.lessons", "cnnlab.errors", "cnnlab.signature")) for name in ours)
    assert not any(name.startswith("matplotlib") for name in imported)


def test_unknown_names_suggest_near_ones():
    with pytest.raises(ConfigError, match="no 'paddin'; did you mean padding"):
        find_lesson("paddin")


@pytest.mark.parametrize(("arguments", "modules"), [([], ["torch", "matplotlib"]), (["padding"], ["matplotlib"])])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments, modules):
    code = (
        "import sys; from cnnlab.lessons.command import run; "
        f"assert run({arguments!r}) == 0; assert not set({modules!r}) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
