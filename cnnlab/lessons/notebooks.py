"""A lesson as a notebook: its text, its script in cells, its picture, its questions and exercises.

The cells run with torch alone. Commands for real data are cells too, and run where cnnlab is installed; those
that need a download or take long are comments, so that "run all" passes over them.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from cnnlab.lessons.course import Lesson
from cnnlab.lessons.pictures import save_picture
from cnnlab.lessons.running import compute
from cnnlab.lessons.script import PRINT
from cnnlab.lessons.view import LEADS, paragraphs, render_block, unwrap

PASSED_OVER = "# It needs a download, or takes minutes: take the # away to run it."
QUICK = ("cnnlab inspect", "cnnlab list", "dataset=digits", "experiment=linear_regression", "cnnlab lesson")


def notebook(lesson: Lesson) -> str:
    """The notebook's JSON, format 4.5; the same lesson is the same text."""
    script = lesson.script
    cells = [text_cell(f"# {lesson.title}\n\n{markdown(lesson.about)}")]
    if script.imports:
        cells.append(code_cell("\n".join(script.imports)))
    cells += [code_cell(definition) for definition in script.definitions]
    if script.keys:
        cells.append(text_cell("Change these, and run the cells below again."))
        cells.append(code_cell("\n".join(script.keys)))
    cells += [code_cell(script.body), code_cell(PRINT)]
    if lesson.has_picture:
        cells.append(picture_cell(lesson))
    question, mark, commands = lesson.ending.partition("On real data:")
    cells.append(text_cell(markdown(question)))
    cells += command_cells(mark + commands)
    cells.append(text_cell(exercises(lesson)))
    for number, cell in enumerate(cells, start=1):
        cell["id"] = f"{lesson.name}-{number}"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def text_cell(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code_cell(code: str) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": code}


def command_cells(text: str) -> list[dict[str, Any]]:
    """Prose as text, each command as a cell of its own."""
    cells = []
    for indented, block in paragraphs(text.strip("\n")):
        if indented and block.startswith("cnnlab "):
            for command in block.splitlines():
                quick = any(words in command for words in QUICK)
                cells.append(code_cell(f"!{command}" if quick else f"{PASSED_OVER}\n# !{command}"))
        else:
            cells.append(text_cell(markdown(block)))
    return cells


def picture_cell(lesson: Lesson) -> dict[str, Any]:
    """The picture of the lesson's own numbers, inside the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        save_picture(lesson.module.draw, compute(lesson, {}), path)
        data = base64.b64encode(path.read_bytes()).decode()
    cell = text_cell(f"![{lesson.title}](attachment:picture.png)")
    return cell | {"attachments": {"picture.png": {"image/png": data}}}


def exercises(lesson: Lesson) -> str:
    questions = "\n".join(f"{number}. {e.question.replace('$', '')}" for number, e in enumerate(lesson.exercises, 1))
    after = f"Next: `{lesson.after.name}`." if lesson.after else ""
    return f"## Exercises\n\n{questions}\n\nCheck: `cnnlab lesson {lesson.name} --check 1=...`\n\n{after}".strip()


def markdown(text: str) -> str:
    """A docstring's prose; formulas, tables and code as they stand."""
    parts = []
    for indented, block in paragraphs(text.strip("\n")):
        if indented:
            parts.append(f"```\n{render_block(block)}\n```")
        else:
            parts += [re.sub(rf"^({LEADS}):", r"**\1:**", p.replace("$", "")) for p in unwrap(block)]
    return "\n\n".join(parts)
