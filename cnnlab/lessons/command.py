"""`cnnlab lesson`: list the lessons, run one, change its numbers, print its code, build the pages."""

from __future__ import annotations

import inspect
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlab.errors import CnnlabError, ConfigError, StorageError
from cnnlab.lessons.course import CHAPTERS, COURSE, Lesson, find_lesson
from cnnlab.lessons.view import render, render_prose
from cnnlab.signature import describe, keyword_arguments, suggest
from cnnlab.signature import read_arguments as read_keys

HELP = """\
usage: cnnlab lesson [NAME [key=value ...]] [--plot [PATH]] [--code]
       cnnlab lesson all [--html FOLDER]

The computations of the course notes, each with its reason, its numbers and its code.

  cnnlab lesson                          the list, in the order of the notes
  cnnlab lesson padding                  one lesson
  cnnlab lesson padding padding=2        the same with other numbers; the page's second line names the keys
  cnnlab lesson padding --help           its keys, with types and defaults
  cnnlab lesson padding --code           the lines that do the work
  cnnlab lesson edges --plot             its picture as edges.png here
  cnnlab lesson edges --plot PATH        its picture as PATH (.png, .svg or .pdf)
  cnnlab lesson all                      every lesson, one after the other
  cnnlab lesson all --html out/          the whole course as static pages with pictures
"""

PICTURE_ENDINGS = (".png", ".svg", ".pdf")
OPTIONS = ("--help", "-h", "--code", "--plot", "--html")


@dataclass
class Request:
    """What was typed."""

    name: str | None = None
    given: dict[str, Any] = field(default_factory=dict)  # key=value, parsed as YAML
    help: bool = False
    code: bool = False
    plot: Path | None = None
    html: Path | None = None


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
        else:
            run_one(find_lesson(request.name), request)
    except CnnlabError as error:
        print(f"cnnlab: {error}", file=sys.stderr)
        return error.exit_code
    return 0


# --- What was typed -------------------------------------------------------------------------------


def read_arguments(arguments: list[str]) -> Request:
    """The words of a command line; every word that has no place is named in one ConfigError."""
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
        elif word == "--plot":
            plot_here = True
            if words and words[0].endswith(PICTURE_ENDINGS):
                request.plot = Path(words.pop(0))
        elif word == "--html":
            if words and not words[0].startswith("-") and "=" not in words[0]:
                request.html = Path(words.pop(0))
            else:
                problems.append("--html: a folder is needed, as in --html out/")
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
    if request.name is None and (request.given or request.code or plot_here or request.html):
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


def check_keys(lesson: Lesson, given: dict[str, Any]) -> None:
    """A ConfigError that names every key of `given` which `compute` does not take as it is."""
    _, problems = read_keys("", given, keyword_arguments(lesson.module.compute))
    if problems:
        raise ConfigError([f"lesson {lesson.name}: {problem}" for problem in problems])


# --- What is printed ------------------------------------------------------------------------------


def contents() -> str:
    """The lessons by chapter, each with its title."""
    width = max(map(len, COURSE))
    lines = []
    for chapter, names in CHAPTERS.items():
        lines += [chapter, *(f"  {name:<{width}}  {COURSE[name].title}" for name in names), ""]
    return "\n".join([*lines, "cnnlab lesson NAME runs one; cnnlab lesson --help tells the rest."])


def command_line(lesson: Lesson, given: dict[str, Any]) -> str:
    """The command that gives this page, with every key that may be changed."""
    parameters = keyword_arguments(lesson.module.compute)
    values = {key: given.get(key, parameter.default) for key, parameter in parameters.items()}
    words = [f"{key}={write_value(value)}" for key, value in values.items()]
    return " ".join(["cnnlab lesson", lesson.name, *words])


def write_value(value: Any) -> str:
    """A value as it would be typed: lists without spaces."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(write_value, value)) + "]"
    return str(value)


def page(lesson: Lesson, given: dict[str, Any], values: dict[str, Any]) -> str:
    """One lesson for a terminal: title, reason, numbers, question, and where to go on."""
    title = f"{lesson.title}\n{'─' * len(lesson.title)}\n{command_line(lesson, given)}"
    parts = [title, render_prose(lesson.about), render(lesson.module.show(values))]
    return "\n\n".join([*parts, render_prose(lesson.ending)])


def keys_help(lesson: Lesson) -> str:
    """The keys of one lesson with their types and defaults."""
    parameters: Iterable[inspect.Parameter] = keyword_arguments(lesson.module.compute).values()
    keys = [f"  {p.name}={write_value(p.default)}  ({describe(p.annotation)})" for p in parameters]
    options = "--code, --plot [PATH]" if lesson.has_picture else "--code"
    lines = keys or ["  this lesson has no keys"]
    return "\n".join([f"{lesson.name}: {lesson.title}", *lines, f"options: {options}"])


def compute(lesson: Lesson, given: dict[str, Any]) -> dict[str, Any]:
    """The lesson's values; where the user's keys make torch refuse, torch's reason is the message."""
    import torch

    torch.set_num_threads(1)  # on tensors this small, threads cost more than they bring
    try:
        return lesson.module.compute(**given)
    except ConfigError as error:
        raise ConfigError([f"lesson {lesson.name}: {problem}" for problem in error.problems]) from error
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        if not given:
            raise  # our own numbers: a bug
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"lesson {lesson.name}: torch refuses these values: {reason}") from error


# --- What is run ----------------------------------------------------------------------------------


def run_one(lesson: Lesson, request: Request) -> None:
    if request.help:
        print(keys_help(lesson))
        return
    if request.html:
        raise ConfigError("--html: it builds the whole course: cnnlab lesson all --html FOLDER")
    check_keys(lesson, request.given)
    if request.plot and not lesson.has_picture:
        drawn = ", ".join(name for name, other in COURSE.items() if other.has_picture)
        raise ConfigError(f"lesson {lesson.name}: it has no picture; these have one: {drawn}")
    if request.code:
        print(lesson.code)
        return
    values = compute(lesson, request.given)
    print(page(lesson, request.given, values))
    if request.plot:
        write_picture(lesson, values, request.plot)
        print(f"\npicture: {request.plot}")


def run_all(request: Request) -> None:
    if request.given or request.plot or request.code:
        raise ConfigError("lesson all: only --html FOLDER goes with it; keys and --plot belong to one lesson")
    if request.help:
        print(HELP, end="")
    elif request.html:
        build(request.html)
    else:
        texts = [page(lesson, {}, compute(lesson, {})) for lesson in COURSE.values()]
        print("\n\n\n".join(texts))


def build(folder: Path) -> None:
    """The static pages in `folder`, made beside it first: an error on the way leaves `folder` as it was."""
    from cnnlab.lessons.pages import OURS, write_pages

    index = folder / "index.html"
    if index.exists() and OURS not in index.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--html: {index} is not a page of this course; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
            write_pages(Path(made))
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(made).iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        raise StorageError(f"--html: {folder} cannot be written: {error}") from error
    print(f"{len(COURSE)} lessons: {index}")


def write_picture(lesson: Lesson, values: dict[str, Any], path: Path) -> None:
    """One picture, made beside `path` first: an error on the way leaves `path` as it was."""
    from cnnlab.lessons.pictures import save_picture

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".picture-") as made:
            save_picture(lesson.module.draw, values, Path(made) / path.name)
            shutil.move(Path(made) / path.name, path)
    except OSError as error:
        raise StorageError(f"--plot: {path} cannot be written: {error}") from error
