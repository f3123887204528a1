"""The static course: complete, linked, and never half written."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from cnnlab.lessons import pages
from cnnlab.lessons.command import run
from cnnlab.lessons.course import COURSE

VOID = {"meta", "link", "img"}


class Checker(HTMLParser):
    """Collects links, and fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for key, value in attributes if key in ("href", "src") and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "out"
    assert run(["all", "--html", str(folder)]) == 0
    return folder


def test_every_lesson_has_a_page_and_its_picture(course):
    names = {path.name for path in course.iterdir()}
    pictures = {f"{name}.svg" for name, lesson in COURSE.items() if lesson.has_picture}
    assert names == {"index.html", "style.css"} | {f"{name}.html" for name in COURSE} | pictures


def test_tags_nest_and_links_lead_to_files(course):
    for path in course.glob("*.html"):
        checker = Checker()
        checker.feed(path.read_text(encoding="utf-8"))
        assert checker.open == [], path.name
        for link in checker.links:
            assert link.startswith("https://arxiv.org/abs/") or (course / link).is_file(), (path.name, link)


def test_a_page_holds_the_numbers_and_the_code(course):
    text = (course / "padding.html").read_text(encoding="utf-8")
    assert "<td>91</td><td>168</td><td>224</td><td>215</td><td>127</td>" in text
    assert "<strong>Answer:</strong>" in text
    assert "F.conv2d" in re.sub("<[^>]+>", "", text)


def test_pages_are_the_same_when_built_again_and_others_files_stay(course, capsys):
    before = {path.name: path.read_bytes() for path in course.iterdir()}
    (course / "notes.txt").write_text("mine")
    assert run(["all", "--html", str(course)]) == 0
    assert (course / "notes.txt").read_text() == "mine"
    (course / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in course.iterdir()} == before
    assert [path.name for path in course.parent.iterdir()] == ["out"]


def test_a_foreign_index_is_not_written_over(tmp_path, capsys):
    (tmp_path / "index.html").write_text("my home page")
    assert run(["all", "--html", str(tmp_path)]) == 2
    assert "is not a page of this course" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "my home page"


def test_an_error_on_the_way_leaves_nothing(tmp_path, monkeypatch, capsys):
    def fail(*_: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(pages, "lesson_page", fail)
    assert run(["all", "--html", str(tmp_path / "out")]) == 6
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_prose_is_marked_up():
    assert pages.inline("`a < b` is *true*") == "<code>a &lt; b</code> is <em>true</em>"
    assert pages.inline("k·k and 2 * 3 * 4") == "k·k and 2 * 3 * 4"
