"""The course as static pages: one HTML file a lesson, its pictures beside it, and an index with a map.

No script, nothing from the network: the folder can be opened from a disk or put on any server. A page is
as readable on a telephone as on a desk: code and formulas wrap, pictures come in two widths.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from html import escape
from pathlib import Path

from torch import Tensor

from cnnlab.lessons.course import CHAPTERS, COURSE, PURPOSES, Lesson, chapters_before
from cnnlab.lessons.formulas import render_formula
from cnnlab.lessons.pictures import NARROW, save_picture
from cnnlab.lessons.running import command_line, compute
from cnnlab.lessons.view import LEADS, Parts, Table, Values, cells, columns, paragraphs, split_columns, unwrap

OURS = '<meta name="generator" content="cnnlab lesson">'  # marks a page that may be written over
TITLE = "Convolutional networks, computed by hand"

STYLE = """\
:root { --ink: #1d1d1f; --soft: #6b6b70; --rule: #e4e0d8; --accent: #1f4e79;
        --paper: #fffdf9; --tint: #f6f3ec; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 18px/1.6 Charter, "Bitstream Charter", Georgia, "DejaVu Serif", serif; }
main { max-width: 44rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.3rem 0 0.6rem; font-weight: 600; text-wrap: balance; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 0.6rem; font-weight: 600; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre { font: 0.82em/1.5 "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre code { font-size: 1em; }
pre { background: var(--tint); padding: 0.8rem 1rem; border-radius: 4px; white-space: pre-wrap;
      overflow-wrap: anywhere; }
pre.code { font-size: 0.76em; }
.line { display: block; padding-left: calc((var(--in) + 4) * 1ch); text-indent: calc((var(--in) + 4) * -1ch); }
p code, li code, td code { background: var(--tint); padding: 0.08em 0.3em; border-radius: 3px; }
p code, li code { overflow-wrap: anywhere; }
pre .k { color: var(--accent); } pre .s { color: #4f7a4d; } pre .c { color: var(--soft); font-style: italic; }
math { font-size: 1.06em; math-style: normal; }
mi { font-family: Charter, "Bitstream Charter", Georgia, "DejaVu Serif", serif; font-size: 0.95em; }
mi[mathvariant] { font-style: italic; }
.formula { margin: 1rem 0 1rem 1.5rem; }
.formula p { margin: 0.5rem 0; display: flex; flex-wrap: wrap; gap: 0.3rem 2.4rem; align-items: baseline; }
.formula td { padding: 0.22rem 1.4rem 0.22rem 0; vertical-align: baseline; }
.place, nav { color: var(--soft); font-size: 0.85rem; }
nav { display: flex; justify-content: space-between; gap: 1rem; border-top: 1px solid var(--rule);
      margin-top: 3rem; padding-top: 1rem; }
nav a:last-child { text-align: right; }
.matrices { display: flex; flex-wrap: wrap; gap: 0.8rem 2.4rem; margin: 1.2rem 0; align-items: flex-start; }
.wide { margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums lining-nums; }
.caption { color: var(--soft); font-size: 0.88rem; line-height: 1.3; max-width: 13rem; padding-bottom: 0.25rem; }
td, th { padding: 0.16rem 0.7rem; text-align: left; vertical-align: baseline; }
th { border-bottom: 1px solid var(--ink); font-weight: 600; }
.right { text-align: right; }
.matrix { border-left: 1.5px solid var(--ink); border-right: 1.5px solid var(--ink); }
.matrix td { text-align: right; padding: 0.1rem 0.5rem; }
figure { margin: 1.5rem 0; text-align: center; } img { max-width: 100%; mix-blend-mode: multiply; }
.asked { border-left: 3px solid var(--accent); padding-left: 1rem; margin: 2.2rem 0 1.6rem; }
.asked p { margin: 0.4rem 0; }
ol { padding-left: 1.6rem; margin: 0.3rem 0; }
li { margin: 0.35rem 0; }
.map { display: block; width: 100%; max-width: 34rem; margin: 1.5rem 0; }
.map text { font: 15px Charter, "Bitstream Charter", Georgia, "DejaVu Serif", serif; fill: var(--ink); }
.map text.small { font-size: 12.5px; fill: var(--soft); }
.map .arc { fill: none; stroke: #b9b2a3; }
.map rect { fill: var(--tint); stroke: var(--rule); } .map a:hover rect { stroke: var(--accent); }
.needs { color: var(--soft); font-size: 0.8em; }
@media (max-width: 40rem) {
  main { padding: 1.25rem 1rem 3rem; } h1 { font-size: 1.5rem; } .formula { margin-left: 0; }
  table { font-size: 0.74rem; } table.formula { font-size: 0.86rem; } td, th { padding: 0.15rem 0.3rem; }
  .formula td { padding-right: 0.6rem; }
  .matrix td { padding: 0.1rem 0.24rem; } pre { padding: 0.7rem 0.6rem; } .matrices { gap: 0.8rem 1.2rem; }
}
"""

TOKEN = re.compile(
    r'(?P<s>""".*?"""|[rf]?"(?:\\.|[^"\\\n])*")|(?P<c>#[^\n]*)|(?P<k>\b(?:' + "|".join(keyword.kwlist) + r")\b)",
    re.DOTALL,
)


def write_pages(folder: Path, lessons: dict[str, Lesson], there: Collection[str] = ()) -> None:
    """The pages of `lessons` with their own numbers, and of the whole course the index as well.

    A page links to those that are written now and to those that are `there` already.
    """
    linked = set(lessons) | set(there)
    (folder / "style.css").write_text(STYLE, encoding="utf-8")
    if len(lessons) > 1:
        (folder / "index.html").write_text(index_page(), encoding="utf-8")
        linked.add("index")
    for lesson in lessons.values():
        values = compute(lesson, {})
        if lesson.has_picture:
            save_picture(lesson.module.draw, values, folder / f"{lesson.name}.svg")
            save_picture(lesson.module.draw, values, folder / f"{lesson.name}-narrow.svg", NARROW)
        text = lesson_page(lesson, values, linked)
        (folder / f"{lesson.name}.html").write_text(text, encoding="utf-8")


def index_page() -> str:
    """The map, then the chapters with their lessons, numbered through."""
    parts = [
        f"<h1>{TITLE}</h1>",
        f"<p>{len(COURSE)} lessons, from one sum of products to whole cases. Each says what is computed and why, "
        "shows code that runs by itself and its numbers, answers a question, and asks some of its own. "
        "<code>cnnlab lesson NAME key=value</code> runs one again with other numbers.</p>",
        "<p>The map: read from top to bottom; a line on the right leads from a chapter to a later one that stands on "
        "it, the thicker the more.</p>",
        course_map(),
    ]
    start = 1
    for number, (chapter, names) in enumerate(CHAPTERS.items(), start=1):
        items = [f"<li>{link(name)} <code>{name}</code>{needs(COURSE[name])}</li>" for name in names]
        parts += [f'<h2 id="chapter-{number}">{escape(chapter)}</h2>', f'<ol start="{start}">', *items, "</ol>"]
        start += len(names)
    return document(TITLE, parts)


def needs(lesson: Lesson) -> str:
    """What a lesson stands on, besides the one right before it."""
    others = [name for name in lesson.stands_on if lesson.before is None or name != lesson.before.name]
    links = ", ".join(f'<a href="{name}.html">{name}</a>' for name in others)
    return f' <span class="needs">after {links}</span>' if others else ""


def course_map() -> str:
    """The chapters in a column; at the right an arc from each to those that stand on it, the thicker the more."""
    row, width = 62, 330
    numbers = {chapter: i for i, chapter in enumerate(CHAPTERS)}
    parts = []
    for chapter, i in numbers.items():
        for other, threads in chapters_before(chapter).items():
            j = numbers[other]
            start, end, right = row * j + 34, row * i + 16, width + 20 + 15 * (i - j)
            curve = f"M{width} {start} C{right} {start} {right} {end} {width} {end}"
            parts.append(f'<path class="arc" d="{curve}" stroke-width="{0.5 + 0.5 * threads}"/>')
        parts.append(
            f'<a href="#chapter-{i + 1}"><rect x="1" y="{row * i + 2}" width="{width - 2}" height="50" rx="5"/>'
            f'<text x="14" y="{row * i + 23}">{i + 1}  {escape(chapter)}</text>'
            f'<text class="small" x="30" y="{row * i + 42}">{escape(PURPOSES[chapter])}</text></a>'
        )
    box = f"0 0 {width + 110} {row * len(CHAPTERS)}"
    return f'<svg class="map" viewBox="{box}" role="img" aria-label="Map of the course">{"".join(parts)}</svg>'


def lesson_page(lesson: Lesson, values: Values, linked: Collection[str]) -> str:
    """One lesson: what and why, code, numbers, picture, questions, exercises, and the way to real data."""
    question, mark, real = lesson.ending.partition("On real data:")
    contents = '<a href="index.html">Contents</a>' if "index" in linked else "Contents"
    before = ", ".join(link_name(name, linked) for name in lesson.stands_on) or "school arithmetic"
    exercises = "".join(f"<li>{inline(exercise.question, linked)}</li>" for exercise in lesson.exercises)
    parts = [
        f'<p class="place">{contents} · {escape(lesson.chapter)} · lesson {lesson.number}</p>',
        f"<h1>{inline(lesson.title)}</h1>",
        f'<p class="place">Stands on: {before}</p>',
        prose(lesson.about, linked),
    ]
    if lesson.has_picture:
        sizes = f'<source media="(max-width: 40rem)" srcset="{lesson.name}-narrow.svg">'
        image = f'<img src="{lesson.name}.svg" alt="{escape(lesson.title)}">'
        parts.append(f"<figure><picture>{sizes}{image}</picture></figure>")
    parts += [
        "<h2>Numbers</h2>",
        f"<pre><code>{escape(command_line(lesson, {}))}</code></pre>",
        numbers(lesson.module.show(values), linked),
        "<h2>Code</h2>",
        f'<pre class="code"><code>{highlight(str(lesson.script))}</code></pre>',
        f'<div class="asked">{prose(question, linked)}</div>',
        prose(mark + real, linked),
        "<h2>Exercises</h2>",
        f"<ol>{exercises}</ol>",
        f"<pre><code>cnnlab lesson {lesson.name} --check 1=...</code></pre>",
    ]
    sides = [("← ", lesson.before, ""), ("", lesson.after, " →")]
    links = [f"{a}{link(other.name, linked)}{b}" if other else "" for a, other, b in sides]
    parts.append(f'<nav><span>{links[0]}</span><span class="right">{links[1]}</span></nav>')
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


def link(name: str, linked: Collection[str] = COURSE) -> str:
    """A lesson's title; a link where there is a page to lead to."""
    title = inline(COURSE[name].title)
    return f'<a href="{name}.html">{title}</a>' if name in linked else title


def link_name(name: str, linked: Collection[str]) -> str:
    return f'<a href="{name}.html">{name}</a>' if name in linked else name


def inline(text: str, linked: Collection[str] = ()) -> str:
    """A sentence with its $formulas$, `code`, *emphasis*, lessons by name, and the words that open a paragraph."""
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        formulas.append(render_formula(match.group(1)))
        return f"\x00{len(formulas) - 1}\x00"

    text = escape(re.sub(r"\$([^$]+)\$", keep, text), quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\blessons?((?:,? (?:and |or )?<code>\w+</code>)+)", lambda m: _link_names(m.group(0), linked), text)
    text = re.sub(r"(?<!\w)\*(\w[^*\n]*\w)\*(?!\w)", r"<em>\1</em>", text)
    text = re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', text)
    text = re.sub(rf"^({LEADS}):", r"<strong>\1:</strong>", text)
    return re.sub(r"\x00(\d+)\x00", lambda m: formulas[int(m.group(1))], text)


def _link_names(text: str, linked: Collection[str]) -> str:
    """In "lessons `a` and `b`": each name a link to its page."""
    return re.sub(
        r"<code>(\w+)</code>",
        lambda m: f'<a href="{m.group(1)}.html"><code>{m.group(1)}</code></a>' if m.group(1) in linked else m.group(0),
        text,
    )


def prose(text: str, linked: Collection[str] = ()) -> str:
    """A docstring's paragraphs; indented blocks are formulas, tables, code, or commands to type."""
    html = []
    for indented, block in paragraphs(text.strip("\n")):
        if not indented:
            html += [f"<p>{inline(paragraph, linked)}</p>" for paragraph in unwrap(block)]
        elif block.startswith("cnnlab "):
            html.append(f"<pre><code>{wrap_lines(escape(block))}</code></pre>")
        elif block.startswith(">>> "):
            html.append(f'<pre class="code"><code>{highlight(re.sub("(?m)^>>> ?", "", block))}</code></pre>')
        else:
            html.append(columns_of(block, linked))
    return "\n".join(html)


def columns_of(block: str, linked: Collection[str]) -> str:
    """Formulas one below the other; where each line has several columns, a table of them."""
    rows = [[inline(text, linked) for text in split_columns(line)] for line in block.splitlines()]
    if len(rows) == 1 or max(map(len, rows)) == 1:
        lines = "".join(f"<p>{''.join(f'<span>{cell}</span>' for cell in row)}</p>" for row in rows)
        return f'<div class="formula">{lines}</div>'
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="formula"><tbody>{body}</tbody></table>'


def highlight(code: str) -> str:
    """Python with its strings, comments and keywords marked, a span a line."""
    html, end = [], 0
    for match in TOKEN.finditer(code):
        html.append(escape(code[end : match.start()]))
        marked = [f'<span class="{match.lastgroup}">{escape(line)}</span>' for line in match.group().split("\n")]
        html.append("\n".join(marked))
        end = match.end()
    return wrap_lines("".join([*html, escape(code[end:])]).strip("\n"))


def wrap_lines(html: str) -> str:
    """Each line in a span that knows its indent, so that what does not fit goes on below, a little further in."""
    lines = html.split("\n")
    indents = [len(text) - len(text.lstrip(" ")) for text in (re.sub("<[^>]*>", "", line) for line in lines)]
    return "".join(
        f'<span class="line" style="--in: {indent}">{line or "<br>"}</span>'
        for indent, line in zip(indents, lines, strict=True)
    )


def numbers(parts: Parts, linked: Collection[str] = ()) -> str:
    """What a lesson shows: paragraphs, matrices side by side, tables."""
    html = []
    for part in parts:
        if isinstance(part, str):
            html.append(f"<p>{inline(part, linked)}</p>")
        elif isinstance(part, Table):
            html.append(f'<div class="wide">{table(part)}</div>')
        else:
            matrices = "".join(matrix(caption, entries) for caption, entries in part.items())
            html.append(f'<div class="matrices">{matrices}</div>')
    return "\n".join(html)


def matrix(caption: str, entries: Tensor) -> str:
    rows = "".join("<tr>" + "".join(f"<td>{entry}</td>" for entry in row) + "</tr>" for row in cells(entries))
    return f'<div><div class="caption">{inline(caption)}</div><table><tbody class="matrix">{rows}</tbody></table></div>'


def table(part: Table) -> str:
    aligned = [(texts, ' class="right"' if flush_right else "") for texts, flush_right in columns(part)]
    head = "".join(f"<th{css}>{inline(texts[0])}</th>" for texts, css in aligned)
    rows = [
        "<tr>" + "".join(f"<td{css}>{inline(texts[i])}</td>" for texts, css in aligned) + "</tr>"
        for i in range(1, len(part.rows) + 1)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
