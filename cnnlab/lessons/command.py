"""`cnnlab lesson`: list the lessons, run one, change its numbers, check answers, take its code, build pages."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlab.errors import CnnlabError, ConfigError, StorageError
from cnnlab.lessons.course import CHAPTERS, COURSE, Lesson, chapters_before, find_lesson
from cnnlab.lessons.exercises import check
from cnnlab.lessons.running import command_line, compute, keys_help, read_keys
from cnnlab.lessons.view import render, render_prose
from cnnlab.signature import suggest

HELP = """\
usage: cnnlab lesson [NAME [key=value ...]] [--plot [PATH]] [--code] [--html FOLDER] [--notebook FILE]
       cnnlab lesson NAME --check NUMBER=ANSWER ...
       cnnlab lesson all [--html FOLDER] [--notebook FOLDER]

The computations of the course notes, each with its reason, its numbers, its code and some exercises.

  cnnlab lesson                          the map of the course: chapters and lessons in order
  cnnlab lesson padding                  one lesson
  cnnlab lesson padding padding=2        the same with other numbers; the page's second line names the keys
  cnnlab lesson padding --help           its keys, with types and defaults
  cnnlab lesson padding --check 1=3      is 3 the answer to its first exercise? If not: what to look at again
                                         (several: 1=3 2=7x7 3=no; answer=3 is the first one's)
  cnnlab lesson padding --code           a script of torch alone: paste it, or save it as a .py file
  cnnlab lesson padding --notebook FILE  the lesson as a notebook (.ipynb)
  cnnlab lesson padding --html FOLDER    the lesson as a page with its picture
  cnnlab lesson edges --plot             its picture as edges.png here
  cnnlab lesson edges --plot PATH        its picture as PATH (.png, .svg or .pdf)
  cnnlab lesson all                      every lesson, one after the other
  cnnlab lesson all --html out/          the whole course as static pages with pictures
  cnnlab lesson all --notebook out/      the whole course as notebooks

Exit code of --check: 0 where everything is right, 1 where something is not.
"""

PICTURE_ENDINGS = (".png", ".svg", ".pdf")
OPTIONS = ("--help", "-h", "--code", "--plot", "--html", "--notebook", "--check")
NEEDED = {
    "--html": "a folder is needed, as in --html out/",
    "--notebook": "a file is needed, as in --notebook lesson.ipynb (after 'lesson all' a folder)",
}


@dataclass
class Request:
    """What was typed."""

    name: str | None = None
    given: dict[str, Any] = field(default_factory=dict)  # key=value, parsed as YAML
    help: bool = False
    code: bool = False
    plot: Path | None = None
    html: Path | None = None
    notebook: Path | None = None
    check: dict[str, str] | None = None  # exercise → what was typed as its answer


def run(arguments: list[str]) -> int:
    """Run `cnnlab lesson ARGUMENTS` and return the exit code: 0, or an error's, its message on stderr."""
    try:
        request = read_arguments(arguments)
        if request.name is None and request.help:
            print(HELP, end="")
        elif request.name is None:
            print(contents())
        elif request.name == "all":
            run_all(request)
        elif request.check is not None:
            return check_answers(find_lesson(request.name), request.check)
        else:
            run_one(find_lesson(request.name), request)
    except CnnlabError as error:
        print(f"cnnlab: {error}", file=sys.stderr)
        return error.exit_code
    return 0


# --- What was typed -------------------------------------------------------------------------------


def read_arguments(arguments: list[str]) -> Request:
    """The words of a command line; every word that has no meaning there is named in one ConfigError."""
    request = Request()
    problems = []
    words = list(arguments)
    plot_here = False
    while words:
        word = words.pop(0)
        if word in ("--help", "-h"):
            request.help = True
        elif word == "--code":
            request.code = True
        elif word == "--check":
            request.check = {}
            while words and "=" in words[0] and not words[0].startswith("-"):
                number, _, answer = words.pop(0).partition("=")
                request.check["1" if number == "answer" else number] = answer
            if not request.check:
                problems.append("--check: an answer is needed, as in --check 1=3")
        elif word == "--plot":
            plot_here = True
            if words and words[0].endswith(PICTURE_ENDINGS):
                request.plot = Path(words.pop(0))
        elif word in NEEDED:
            if words and not words[0].startswith("-") and "=" not in words[0]:
                setattr(request, word.removeprefix("--"), Path(words.pop(0)))
            else:
                problems.append(f"{word}: {NEEDED[word]}")
        elif word.startswith("-"):
            problems.append(f"{word}: no such option; {suggest(word, OPTIONS)}")
        elif "=" in word:
            key, _, text = word.partition("=")
            if key in request.given:
                problems.append(f"{key}: given twice")
            try:
                request.given[key] = parse_value(text)
            except ValueError:
                problems.append(f"{key}: {text!r} cannot be read; expected a number, a word or a [list]")
        elif request.name is None:
            request.name = word
        else:
            endings = " or ".join(PICTURE_ENDINGS)
            problems.append(f"{word}: expected key=value, or after --plot a path that ends in {endings}")
    typed = (request.given, request.code, plot_here, request.html, request.notebook, request.check)
    if request.name is None and any(typed):
        problems.append("lesson: a name is needed in front; 'cnnlab lesson' lists them")
    if problems:
        raise ConfigError(problems)
    if plot_here and request.plot is None:
        request.plot = Path(f"{request.name}.png")
    return request


def parse_value(text: str) -> Any:
    """A YAML scalar or list; 3e-2 is a number, as it is for `cnnlab train`. Raises ValueError."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except (YAMLError, ValueError) as error:
        raise ValueError(text) from error
    assert isinstance(parsed, dict)
    return parsed["value"]


# --- What is printed ------------------------------------------------------------------------------


def contents() -> str:
    """The map of the course: chapters, what they stand on, and their lessons with titles."""
    width = max(map(len, COURSE))
    lines = []
    numbers = {chapter: number for number, chapter in enumerate(CHAPTERS, start=1)}
    for chapter, names in CHAPTERS.items():
        before = ", ".join(str(numbers[other]) for other in chapters_before(chapter))
        lines.append(f"{numbers[chapter]} {chapter}" + (f"  (stands on {before})" if before else "  (start here)"))
        lines += [*(f"  {name:<{width}}  {COURSE[name].title}" for name in names), ""]
    return "\n".join([*lines, "cnnlab lesson NAME runs one; cnnlab lesson --help tells the rest."])


def page(lesson: Lesson, given: dict[str, Any], values: dict[str, Any]) -> str:
    """One lesson for a terminal: title, reason, numbers, questions, exercises, and where to go on."""
    title = f"{lesson.title}\n{'─' * len(lesson.title)}\n{command_line(lesson, given)}"
    before = f"Stands on: {', '.join(lesson.stands_on) or 'school arithmetic'}."
    after = f"Next: {lesson.after.name}." if lesson.after else "This is the last lesson."
    exercises = [
        render_prose(f"Exercise {number}: {exercise.question}")
        for number, exercise in enumerate(lesson.exercises, start=1)
    ]
    checking = f"Check an answer: cnnlab lesson {lesson.name} --check 1=..."
    parts = [title, render_prose(lesson.about), render(lesson.module.show(values)), render_prose(lesson.ending)]
    return "\n\n".join([*parts, "\n".join([*exercises, checking]), f"{before} {after}"])


# --- What is run ----------------------------------------------------------------------------------


def run_one(lesson: Lesson, request: Request) -> None:
    if request.help:
        print(keys_help(lesson))
        return
    given = read_keys(lesson, request.given)
    if request.plot and not lesson.has_picture:
        drawn = ", ".join(name for name, other in COURSE.items() if other.has_picture)
        raise ConfigError(f"lesson {lesson.name}: it has no picture; these have one: {drawn}")
    files = [f"--{name}" for name in ("html", "notebook") if getattr(request, name)]
    if files and given:
        raise ConfigError(f"{files[0]}: keys do not go with it; it shows the lesson's own numbers")
    if request.code:
        print(lesson.script, end="")
    elif request.html:
        build({lesson.name: lesson}, request.html)
    elif request.notebook:
        write_notebook(lesson, request.notebook)
    else:
        values = compute(lesson, given)
        print(page(lesson, given, values))
        if request.plot:
            write_picture(lesson, values, request.plot)
            print(f"\npicture: {request.plot}")


def run_all(request: Request) -> None:
    if request.given or request.plot or request.code or request.check:
        raise ConfigError(
            "lesson all: only --html FOLDER and --notebook FOLDER go with it; keys, --plot, --code and --check "
            "belong to one lesson"
        )
    if request.help:
        print(HELP, end="")
    elif request.html:
        build(COURSE, request.html)
    elif request.notebook:
        write_notebooks(request.notebook)
    else:
        texts = [page(lesson, {}, compute(lesson, {})) for lesson in COURSE.values()]
        print("\n\n\n".join(texts))


def check_answers(lesson: Lesson, answers: dict[str, str]) -> int:
    """Print for each answer whether it is right, or what to look at again. 0 if all are right, otherwise 1."""
    exercises = {str(number): exercise for number, exercise in enumerate(lesson.exercises, start=1)}
    for number in answers:
        if number not in exercises:
            wanted = " or ".join(f"{known}=..." for known in exercises)
            raise ConfigError(f"--check: lesson {lesson.name} has no exercise '{number}'; expected {wanted}")
    checked = {number: check(exercises[number], text) for number, text in answers.items()}
    for number, (_, message) in checked.items():
        print(f"exercise {number}: {message}")
    return 0 if all(right for right, _ in checked.values()) else 1


def build(lessons: dict[str, Lesson], folder: Path) -> None:
    """Static pages in `folder`, made beside it first: an error on the way leaves `folder` as it was."""
    from cnnlab.lessons.pages import OURS, write_pages

    index = folder / "index.html"
    if index.exists() and OURS not in index.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--html: {index} is not a page of this course; name another folder")
    there = {path.stem for path in folder.glob("*.html")} if folder.is_dir() else set()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
            write_pages(Path(made), lessons, there)
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(made).iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        raise StorageError(f"--html: {folder} cannot be written: {error}") from error
    if len(lessons) > 1:
        print(f"{len(lessons)} lessons: {index}")
    else:
        print(f"page: {folder / next(iter(lessons))}.html")


def write_notebook(lesson: Lesson, path: Path) -> None:
    from cnnlab.lessons.notebooks import notebook

    if path.suffix != ".ipynb":
        raise ConfigError(f"--notebook: {path} was given; expected a file whose name ends in .ipynb")
    _write(path, notebook(lesson))
    print(f"notebook: {path}")


def write_notebooks(folder: Path) -> None:
    from cnnlab.lessons.notebooks import notebook

    texts = {f"{lesson.number:02}_{lesson.name}.ipynb": notebook(lesson) for lesson in COURSE.values()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"--notebook: {folder} cannot be written: {error}") from error
    for name, text in texts.items():
        _write(folder / name, text)
    print(f"{len(texts)} notebooks: {folder}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--notebook: {path} cannot be written: {error}") from error


def write_picture(lesson: Lesson, values: dict[str, Any], path: Path) -> None:
    """One picture, made beside `path` first: an error on the way leaves `path` as it was."""
    from cnnlab.lessons.pictures import save_picture

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".picture-") as made:
            save_picture(lesson.module.draw, values, Path(made) / path.name)
            shutil.move(Path(made) / path.name, path)
    except OSError as error:
        raise StorageError(f"--plot: {path} cannot be written: {error}") from error
