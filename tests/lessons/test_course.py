"""Every file of the package that is a lesson stands in the course, and every lesson is a whole page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cnnlab.lessons
from cnnlab.errors import ConfigError
from cnnlab.lessons.course import CHAPTERS, COURSE, chapters_before, find_lesson
from cnnlab.lessons.pictures import save_picture
from cnnlab.lessons.view import render
from tests.lessons.conftest import values_of

FOLDER = Path(cnnlab.lessons.__file__).parent
MACHINERY = {
    "__init__", "__main__", "command", "course", "diagrams", "exercises", "formulas", "notebooks", "pages", "pictures",
    "running", "script", "seeded", "view",
}  # fmt: skip


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
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
    assert len(lesson.about) > 200 and "Stands on" not in lesson.about
    for mark in ("Question:", "Answer:", "On real data:", "    cnnlab "):
        assert lesson.ending.count(mark) >= 1, mark
    # A page must be read in one sitting.
    assert len(lesson.source.splitlines()) <= 215

    values = values_of(lesson.name)
    assert render(lesson.module.show(values)).strip()
    if lesson.has_picture:
        save_picture(lesson.module.draw, values, tmp_path / "picture.svg", width=4.0)
        assert (tmp_path / "picture.svg").stat().st_size > 1000


def test_what_a_lesson_stands_on_comes_before_it():
    assert COURSE["cross_correlation"].number == 1
    assert COURSE["regression"].number < min(COURSE[name].number for name in ("block", "lenet", "residual"))
    for lesson in COURSE.values():
        (written,) = re.findall(r"^Stands on: ([^.]*)\.$", lesson.source, re.MULTILINE)
        assert written == (", ".join(lesson.stands_on) or "school arithmetic"), lesson.name
        assert all(COURSE[name].number < lesson.number for name in lesson.stands_on), lesson.name


def test_the_map_leads_from_earlier_chapters_to_later_ones():
    chapters = list(CHAPTERS)
    assert chapters_before(chapters[0]) == {}
    for index, chapter in enumerate(chapters[1:], start=1):
        before = chapters_before(chapter)
        assert before and set(before) <= set(chapters[:index])


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_what_a_lesson_promises_of_inspect_is_what_inspect_shows(lesson):
    """`inspect` shows layers, kinds, outputs, parameters, multiply-adds, receptive fields and memory."""
    for text in re.findall(r"On real data: (.*?)\n\n    cnnlab inspect", lesson.source, re.DOTALL):
        assert not re.search(r"\b(mean and std|padding,|kernel sizes|strides of)\b", text), lesson.name


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_lessons_import_nothing_of_cnnlab_but_errors_signature_and_lessons(lesson):
    imported = [line.split()[1] for line in lesson.source.splitlines() if line.startswith(("from ", "import "))]
    ours = [name for name in imported if name.startswith("cnnlab")]
    assert all(name.startswith(("cnnlab.lessons", "cnnlab.errors", "cnnlab.signature")) for name in ours)
    assert not any(name.startswith("matplotlib") for name in imported)


@pytest.mark.parametrize("typed", ["paddin", "padin"])
def test_unknown_names_suggest_near_ones(typed):
    with pytest.raises(ConfigError, match=f"no '{typed}'; did you mean padding"):
        find_lesson(typed)


def test_no_word_is_used_for_what_it_does_not_mean():
    """After, not behind; a network predicts and does not answer."""
    for lesson in COURSE.values():
        for phrase in (" behind it", "shape behind", "the network answers", "its answers are"):
            assert phrase not in lesson.source, (lesson.name, phrase)


@pytest.mark.parametrize(("arguments", "modules"), [([], ["torch", "matplotlib"]), (["padding"], ["matplotlib"])])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments, modules):
    code = (
        "import sys; from cnnlab.lessons.command import run; "
        f"assert run({arguments!r}) == 0; assert not set({modules!r}) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
