"""Running a lesson: the keys that it takes, its values with them, and the command that gives them."""

from __future__ import annotations

from typing import Any

from cnnlab.errors import ConfigError
from cnnlab.lessons.course import Lesson
from cnnlab.signature import describe, keyword_arguments, read_arguments


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


def read_keys(lesson: Lesson, given: dict[str, Any]) -> dict[str, Any]:
    """The keys of `given` as `compute` has them; a ConfigError that names every one which it does not take."""
    values, problems = read_arguments("", given, keyword_arguments(lesson.module.compute))
    if problems:
        raise ConfigError([f"lesson {lesson.name}: {problem}" for problem in problems])
    return values


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


def keys_help(lesson: Lesson) -> str:
    """The keys of one lesson with their types and defaults."""
    parameters = keyword_arguments(lesson.module.compute).values()
    keys = [f"  {p.name}={write_value(p.default)}  ({describe(p.annotation)})" for p in parameters]
    options = ["--code", "--notebook FILE", "--html FOLDER", "--check 1=..."]
    if lesson.has_picture:
        options.insert(1, "--plot [PATH]")
    lines = keys or ["  this lesson has no keys"]
    return "\n".join([f"{lesson.name}: {lesson.title}", *lines, f"options: {', '.join(options)}"])
