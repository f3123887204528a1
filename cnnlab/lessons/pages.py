"""The course as static pages: one HTML file a lesson, its picture beside it, and an index.

No script, nothing from the network: the folder can be opened from a disk or put on any server.
"""

from __future__ import annotations

import keyword
import re
from html import escape
from pathlib import Path

from torch import Tensor

from cnnlab.lessons.command import command_line, compute
from cnnlab.lessons.course import CHAPTERS, COURSE, Lesson
from cnnlab.lessons.pictures import save_picture
from cnnlab.lessons.view import Parts, Table, Values, cells, columns, paragraphs, unwrap

OURS = '<meta name="generator" content="cnnlab lesson">'  # marks a page that may be written over

STYLE = """\
:root { --ink: #1d1d1f; --soft: #6b6b70; --rule: #e4e0d8; --accent: #1f4e79;
        --paper: #fffdf9; --tint: #f6f3ec; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 18px/1.6 Charter, "Bitstream Charter", Georgia, "DejaVu Serif", serif; }
main { max-width: 44rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.3rem 0 0.6rem; font-weight: 600; text-wrap: balance; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 0.6rem; font-weight: 600; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre { font: 0.82em/1.5 "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre code { font-size: 1em; }
pre.code, pre.formula { font-size: 0.76em; }
p code, li code { background: var(--tint); padding: 0.08em 0.3em; border-radius: 3px; }
pre { background: var(--tint); padding: 0.8rem 1rem; overflow-x: auto; border-radius: 4px; }
@media (min-width: 66rem) { pre.code { margin: 0 -8.75rem; } pre.formula { margin-right: -8.75rem; } }
pre.formula { background: none; padding: 0 0 0 1.5rem; }
pre .k { color: var(--accent); } pre .s { color: #4f7a4d; } pre .c { color: var(--soft); font-style: italic; }
.place, nav { color: var(--soft); font-size: 0.85rem; }
nav { display: flex; justify-content: space-between; gap: 1rem; border-top: 1px solid var(--rule);
      margin-top: 3rem; padding-top: 1rem; }
.matrices { display: flex; flex-wrap: wrap; gap: 0.8rem 2.4rem; margin: 1.2rem 0;
            align-items: flex-start; }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums lining-nums; }
caption { text-align: left; white-space: nowrap; color: var(--soft); padding-bottom: 0.25rem; }
td, th { padding: 0.16rem 0.7rem; text-align: left; }
th { border-bottom: 1px solid var(--ink); font-weight: 600; }
.right { text-align: right; }
.matrix { border-left: 1.5px solid var(--ink); border-right: 1.5px solid var(--ink); }
.matrix td { text-align: right; padding: 0.1rem 0.5rem; }
figure { margin: 1.5rem 0; } img { width: 100%; mix-blend-mode: multiply; }
.asked { border-left: 3px solid var(--accent); padding-left: 1rem; margin: 2.2rem 0 1.6rem; }
.asked p { margin: 0.4rem 0; }
ol { padding-left: 1.4rem; margin: 0.3rem 0; }
li { margin: 0.2rem 0; }
li code { color: var(--soft); background: none; }
"""

TOKEN = re.compile(
    r'(?P<s>""".*?"""|"(?:\\.|[^"\\\n])*")|(?P<c>#[^\n]*)|(?P<k>\b(?:' + "|".join(keyword.kwlist) + r")\b)",
    re.DOTALL,
)


def write_pages(folder: Path) -> None:
    """Every lesson of the course with its default numbers, and the index."""
    lessons = list(COURSE.values())
    (folder / "style.css").write_text(STYLE, encoding="utf-8")
    (folder / "index.html").write_text(index_page(), encoding="utf-8")
    for number, lesson in enumerate(lessons):
        values = compute(lesson, {})
        if lesson.has_picture:
            save_picture(lesson.module.draw, values, folder / f"{lesson.name}.svg")
        before = lessons[number - 1] if number else None
        after = lessons[number + 1] if number + 1 < len(lessons) else None
        text = lesson_page(lesson, values, before, after)
        (folder / f"{lesson.name}.html").write_text(text, encoding="utf-8")


def index_page() -> str:
    """The chapters with their lessons, numbered through."""
    parts = ["<h1>Convolutional networks, computed by hand</h1>"]
    parts.append(
        f"<p>{len(COURSE)} small computations, in the order of the notes. Each page says what is computed "
        "and why, shows the code and the numbers, and answers one question. "
        "<code>cnnlab lesson NAME key=value</code> runs it again with other numbers.</p>"
    )
    start = 1
    for chapter, names in CHAPTERS.items():
        items = [
            f'<li><a href="{name}.html">{inline(COURSE[name].title)}</a> <code>{name}</code></li>' for name in names
        ]
        parts += [f"<h2>{escape(chapter)}</h2>", f'<ol start="{start}">', *items, "</ol>"]
        start += len(names)
    return document("Convolutional networks, computed by hand", parts)


def lesson_page(lesson: Lesson, values: Values, before: Lesson | None, after: Lesson | None) -> str:
    """One lesson: what and why, code, numbers, picture, question, and the way to real data."""
    question, mark, real = lesson.ending.partition("On real data:")
    parts = [
        f'<p class="place"><a href="index.html">Contents</a> · {escape(lesson.chapter)}</p>',
        f"<h1>{inline(lesson.title)}</h1>",
        prose(lesson.about),
        "<h2>Code</h2>",
        f'<pre class="code"><code>{highlight(lesson.code)}</code></pre>',
        "<h2>Numbers</h2>",
        f"<pre><code>{escape(command_line(lesson, {}))}</code></pre>",
        numbers(lesson.module.show(values)),
    ]
    if lesson.has_picture:
        parts.append(f'<figure><img src="{lesson.name}.svg" alt="{escape(lesson.title)}"></figure>')
    parts += [f'<div class="asked">{prose(question)}</div>', prose(mark + real)]
    links = [
        f'<a href="{before.name}.html">← {inline(before.title)}</a>' if before else "<span></span>",
        f'<a href="{after.name}.html">{inline(after.title)} →</a>' if after else "<span></span>",
    ]
    parts.append(f"<nav>{''.join(links)}</nav>")
    return document(lesson.title, parts)


def document(title: str, parts: list[str]) -> str:
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            OURS,
            f"<title>{escape(title)}</title>",
            '<link rel="stylesheet" href="style.css">\n</head>\n<body>\n<main>',
            *parts,
            "</main>\n</body>\n</html>\n",
        ]
    )


# --- Parts of a page ------------------------------------------------------------------------------


def inline(text: str) -> str:
    """A sentence with its `code`, *emphasis* and the words that open a paragraph."""
    text = escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"(?<!\w)\*(\w[^*\n]*\w)\*(?!\w)", r"<em>\1</em>", text)
    text = re.sub(r"\barXiv:(\d{4}\.\d{5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', text)
    return re.sub(r"^(Question|Answer|On real data):", r"<strong>\1:</strong>", text)


def prose(text: str) -> str:
    """A docstring's paragraphs; indented blocks are formulas, or commands to type."""
    html = []
    for indented, block in paragraphs(text.strip("\n")):
        if not indented:
            html += [f"<p>{inline(paragraph)}</p>" for paragraph in unwrap(block)]
        elif block.startswith("cnnlab "):
            html.append(f"<pre><code>{escape(block)}</code></pre>")
        else:
            html.append(f'<pre class="formula">{escape(block)}</pre>')
    return "\n".join(html)


def highlight(code: str) -> str:
    """Python with its strings, comments and keywords marked."""
    html, end = [], 0
    for match in TOKEN.finditer(code):
        html.append(escape(code[end : match.start()]))
        html.append(f'<span class="{match.lastgroup}">{escape(match.group())}</span>')
        end = match.end()
    return "".join([*html, escape(code[end:])])


def numbers(parts: Parts) -> str:
    """What a lesson shows: paragraphs, matrices side by side, tables."""
    html = []
    for part in parts:
        if isinstance(part, str):
            html.append(f"<p>{inline(part)}</p>")
        elif isinstance(part, Table):
            html.append(f'<div class="scroll">{table(part)}</div>')
        else:
            matrices = "".join(matrix(caption, entries) for caption, entries in part.items())
            html.append(f'<div class="matrices">{matrices}</div>')
    return "\n".join(html)


def matrix(caption: str, entries: Tensor) -> str:
    rows = "".join("<tr>" + "".join(f"<td>{entry}</td>" for entry in row) + "</tr>" for row in cells(entries))
    return f'<table><caption>{inline(caption)}</caption><tbody class="matrix">{rows}</tbody></table>'


def table(part: Table) -> str:
    aligned = [(texts, ' class="right"' if flush_right else "") for texts, flush_right in columns(part)]
    head = "".join(f"<th{css}>{inline(texts[0])}</th>" for texts, css in aligned)
    rows = [
        "<tr>" + "".join(f"<td{css}>{inline(texts[i])}</td>" for texts, css in aligned) + "</tr>"
        for i in range(1, len(part.rows) + 1)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
