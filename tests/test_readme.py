"""Every command that the README and the lessons show is one that works."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from cnnlab.cli import build_parser
from cnnlab.composition import CONF, check_overrides, find_problems
from cnnlab.lessons.command import read_arguments
from cnnlab.lessons.course import COURSE, find_lesson
from tests.conftest import only_run

README = (CONF.parent / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^    ((?:cnnlab|make) [^#\n]*)", re.MULTILINE)


def commands_in(text: str) -> list[str]:
    return [command.strip() for command in COMMAND.findall(text)]


def check_command(command: str) -> None:
    """Fails, or raises ConfigError or SystemExit, for a command that cnnlab would refuse."""
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (CONF.parent / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
    elif words[0] == "train":
        overrides = [word for word in words[1:] if not word.startswith("-") and word != "job"]
        check_overrides(["-m", *overrides] if "-m" in words else overrides, [CONF])
        assert "-m" in words or find_problems(overrides, [CONF]) == []
    elif words[0] == "inspect":
        arguments = build_parser().parse_args(words)
        if "=" in arguments.what[0]:
            check_overrides(["-m", *arguments.what], [CONF])  # a schedule's curve may be drawn beside others
    elif words[0] == "lesson":
        request = read_arguments(words[1:])
        assert request.name in (None, "all") or find_lesson(request.name)
    else:
        build_parser().parse_args(words)


@pytest.mark.parametrize("command", [c for c in commands_in(README) if "--config-dir" not in c])
def test_commands_of_the_readme(command):
    check_command(command)


@pytest.mark.parametrize("lesson", COURSE)
def test_commands_of_the_lessons(lesson):
    commands = commands_in(COURSE[lesson].ending)
    assert commands, "a lesson ends with a command for real data"
    for command in commands:
        check_command(command)


def test_your_own_parts_as_the_readme_shows_them(cnnlab, tmp_path):
    """The two files of that section, written down as they stand there, and its command."""
    blocks = re.findall(r"((?:^    .*\n|^\n)+)", README.split("## Your own parts")[1], re.MULTILINE)
    text = re.sub(r"^    ", "", "".join(blocks), flags=re.MULTILINE)
    for name, content in re.findall(
        r"^# (\S+\.(?:py|yaml))\n(.*?)(?=^# \S+\.|^cnnlab )", text, re.MULTILINE | re.DOTALL
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (command,) = [c for c in commands_in(README) if "--config-dir" in c]
    done = cnnlab(*shlex.split(command)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path / "outputs")
    assert "width: 16" in (run / "config.yaml").read_text()
    assert json.loads((run / "summary.json").read_text())["test"]["accuracy"] >= 0.9


def test_the_readme_draws_the_rooms_of_the_house():
    drawn = set(re.findall(r"^      (\w+)/\s", README.split("## The house")[1], re.MULTILINE))
    assert drawn == {path.parent.name for path in (CONF.parent / "cnnlab").glob("*/__init__.py")}


def test_every_file_says_what_it_is_for():
    files = {path: path.read_text(encoding="utf-8") for path in (CONF.parent / "cnnlab").rglob("*.py")}
    assert [path for path, text in files.items() if text.strip() and not text.startswith('"""')] == []
