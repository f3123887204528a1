"""The static course: complete, linked, and never half written."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from cnnlab.lessons import pages
from cnnlab.lessons.command import run
from cnnlab.lessons.course import CHAPTERS, COURSE, chapters_before
from tests.lessons.conftest import take_computed

VOID = {"meta", "link", "img", "source", "br", "wbr", "path", "rect"}


class Checker(HTMLParser):
    """Collects links, and fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for key, value in attributes if key in ("href", "src", "srcset") and value]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value for key, value in attributes if key == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The whole course; its pictures, which test_course.py draws, are empty here."""
    folder = tmp_path_factory.mktemp("pages") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "compute", take_computed)
        patch.setattr(pages, "save_picture", lambda draw, values, path, width=0: path.write_text("<svg/>"))
        assert run(["all", "--html", str(folder)]) == 0
    return folder


def test_every_lesson_has_a_page_and_its_picture(course):
    names = {path.name for path in course.iterdir()}
    drawn = [name for name, lesson in COURSE.items() if lesson.has_picture]
    pictures = {f"{name}{width}.svg" for name in drawn for width in ("", "-narrow")}
    assert names == {"index.html", "style.css"} | {f"{name}.html" for name in COURSE} | pictures


def test_tags_nest_and_links_lead_to_files(course):
    for path in course.glob("*.html"):
        checker = Checker()
        checker.feed(path.read_text(encoding="utf-8"))
        assert checker.open == [], path.name
        for link in checker.links:
            inside = link.startswith(("https://arxiv.org/abs/", "#chapter-"))
            assert inside or (course / link).is_file(), (path.name, link)


def test_lessons_link_to_lessons_by_name_title_and_neighbour(course):
    text = (course / "lenet.html").read_text(encoding="utf-8")
    assert '<a href="case_fashion.html"><code>case_fashion</code></a>' in text
    assert '<a href="pooling.html">pooling</a>' in text
    assert '← <a href="repeat.html">' in text and '<a href="index.html">Contents</a>' in text


def test_the_index_has_a_map_whose_boxes_lead_to_the_chapters(course):
    text = (course / "index.html").read_text(encoding="utf-8")
    for number in range(1, len(CHAPTERS) + 1):
        assert f'<a href="#chapter-{number}">' in text and f'id="chapter-{number}"' in text
    assert text.count('<path class="arc"') == sum(len(chapters_before(chapter)) for chapter in CHAPTERS)


def test_nothing_on_a_page_is_wider_than_a_telephone(course):
    """Code and commands wrap, and a picture is there for narrow screens."""
    style = (course / "style.css").read_text(encoding="utf-8")
    assert "overflow-x" not in style and "white-space: pre-wrap" in style and "nowrap" not in style
    text = (course / "padding.html").read_text(encoding="utf-8")
    assert '<source media="(max-width: 40rem)" srcset="padding-narrow.svg">' in text
    assert '<span class="line" style="--in: 0">' in text


def test_answers_are_not_on_the_page(course):
    text = (course / "padding.html").read_text(encoding="utf-8")
    for exercise in COURSE["padding"].exercises:
        assert pages.inline(exercise.question) in text
        assert exercise.hint not in text and not any(slip in text for slip in exercise.slips.values())


def test_a_page_holds_the_numbers_and_the_code(course):
    text = (course / "padding.html").read_text(encoding="utf-8")
    assert "<td>91</td><td>168</td><td>224</td><td>215</td><td>127</td>" in text
    assert "<strong>Answer:</strong>" in text
    assert "F.conv2d" in re.sub("<[^>]+>", "", text)


def test_pages_are_the_same_when_built_again_and_others_files_stay(tmp_path, capsys):
    folder = tmp_path / "out"
    assert run(["padding", "--html", str(folder)]) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "notes.txt").write_text("mine")
    assert run(["padding", "--html", str(folder)]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


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
