"""Formulas of the pages: well formed, and set as a reader expects."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from cnnlab.lessons.course import COURSE
from cnnlab.lessons.formulas import render_formula
from cnnlab.lessons.view import render_prose


def shape(text: str) -> str:
    """A formula's structure in short: (frac a b), (sup x 2), ..."""

    def write(element: ElementTree.Element) -> str:
        inner = [word for child in element if (word := write(child))]
        if element.tag in ("mfrac", "msup", "msub", "msqrt"):
            return f"({element.tag[1:]} {' '.join(inner)})"
        return element.text or " ".join(inner)

    return write(ElementTree.fromstring(f"<all>{render_formula(text).replace('<wbr>', '')}</all>"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 / (1 + e⁻ˣ)", "(frac 1 1 + (sup e − x))"),
        ("(n + 2p − k) / s + 1", "(frac n + 2 p − k s) + 1"),
        ("p (1 − p) / n", "(frac p ( 1 − p ) n)"),
        ("(a + b)(c + d) / e", "(frac ( a + b ) ( c + d ) e)"),
        ("2/3 · x", "(frac 2 3) · x"),
        ("X[i + a, j]", "(sub X i + a , j)"),
        ("C_in", "(sub C in)"),
        ("β₁ᵗ", "(sup (sub β 1) t)"),
        ("√(a² + b²)", "(sqrt (sup a 2) + (sup b 2))"),
        ("1/√fan_in", "(frac 1 (sqrt (sub fan in)))"),
        ("∂L/∂w₁", "(frac ∂ L ∂ (sub w 1))"),
        ("e^z[j]", "(sup e (sub z j))"),
        ("|p − t|", "| p − t |"),
        ("12,288", "12,288"),
    ],
)
def test_structure(text, expected):
    assert shape(text) == expected


def test_a_blank_between_a_word_and_a_bracket_stays():
    assert "mspace" in render_formula("mean (p − t)²")
    assert "mspace" not in render_formula("relu(x)")


def test_a_long_formula_may_break_before_its_relations_and_sums():
    assert render_formula("y = a + b").split("<wbr>") == [
        '<math><mi mathvariant="normal">y</mi></math>',
        '<math><mo form="infix">=</mo><mi mathvariant="normal">a</mi></math>',
        '<math><mo form="infix">+</mo><mi mathvariant="normal">b</mi></math>',
    ]


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_every_formula_of_a_lesson_is_well_formed(lesson):
    text = lesson.about + lesson.ending
    assert text.count("$") % 2 == 0
    for formula in re.findall(r"\$([^$]+)\$", text):
        ElementTree.fromstring(f"<all>{render_formula(' '.join(formula.split())).replace('<wbr>', '')}</all>")
    assert "$" not in render_prose(text)
