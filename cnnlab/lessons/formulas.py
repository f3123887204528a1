"""Formulas: the plain text between two $ of a lesson's docstring as MathML.

A terminal and a notebook print the same text without the $. A formula is set in pieces, so that a narrow
screen may break it at its relations and sums.

    $1 / (1 + e⁻ˣ)$, $m/2 + 1$    fractions, of a whole product where blanks surround the stroke;
                                  brackets that only held it together fall away
    $w_i$, $X[i + a, j]$          lower indices
    $x²$, $2^n$, $f′$             upper ones
    $√(a² + b²)$, $Σ x$           a root, a sum
"""

from __future__ import annotations

import re
from html import escape

RELATIONS = set("=←≈≤≥<>→")
SUMS = set("+−±⋆")
PRODUCTS = set("·×")
UPPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣᵗᵀⁿ", "0123456789−+xtTn")
LOWER = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₜ", "0123456789t")
TOKEN = re.compile(
    r"(?P<over> / )|\s*(?:(?P<number>\d+(?:,\d{3})*(?:\.\d+)?|½)"
    r"|(?P<upper>[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣᵗᵀⁿ]+)|(?P<lower>[₀₁₂₃₄₅₆₇₈₉ₜ]+)"
    r"|(?P<word>(?:(?![⁰¹²³⁴⁵⁶⁷⁸⁹ˣᵗᵀⁿ₀₁₂₃₄₅₆₇₈₉ₜ½])[^\W\d_]\u0302?)+)|(?P<sign>\S))"
)


def render_formula(text: str) -> str:
    """One formula as one or more <math> elements, between which a line may break."""
    return "<wbr>".join(f"<math>{piece}</math>" for piece in Parser(text).pieces())


class Parser:
    """Recursive descent: sums of products of quotients of powers. A sign that it does not know stands as it is."""

    def __init__(self, text: str):
        matches = list(TOKEN.finditer(text))
        self.tokens = [(match.lastgroup or "", match.group(match.lastgroup or 0)) for match in matches]
        self.blank_before = [match.group().startswith(" ") for match in matches]
        self.index = 0

    def pieces(self) -> list[str]:
        """The formula cut before each relation and each sum that stands outside brackets."""
        parts: list[str] = []
        while not self.at_end():
            sign = self.operator() if self.at(RELATIONS | SUMS | set(",)]|")) else ""
            infix = sign.replace("<mo>", '<mo form="infix">') if parts else sign
            parts.append(infix + self.product())
        return parts

    def inside(self, closing: str) -> str:
        """All up to the closing bracket."""
        parts = []
        while not self.at_end() and not self.at({closing}):
            parts.append(self.operator() if self.at(RELATIONS | SUMS | set(",;:|")) else self.product())
        return "".join([*parts, self.operator() if self.at({closing}) else ""])

    def product(self) -> str:
        parts: list[str] = []
        start = self.index
        while not self.at_end() and not self.at(RELATIONS | SUMS | set(",;:)]|")):
            if self.tokens[self.index][0] == "over":
                above = self.without_brackets(start, "".join(parts))
                self.index += 1
                below_start = self.index
                below = self.quotient()
                parts, start = [fraction(above, self.without_brackets(below_start, below))], -1
                continue
            if self.at(PRODUCTS):
                parts.append(self.operator())
            elif parts and self.needs_space():
                parts.append('<mspace width="0.25em"></mspace>')
            parts.append(self.quotient())
        return "".join(parts)

    def needs_space(self) -> bool:
        """Two things side by side, one of them a word of several letters: log p, output size, mean (x − y)."""
        (_, before), (kind, after) = self.tokens[self.index - 1], self.tokens[self.index]
        if after == "(" and self.blank_before[self.index]:
            return before.isalpha() and len(before) > 1
        return kind in ("word", "number") and (before[-1:].isalpha() and (len(before) > 1 or len(after) > 1))

    def quotient(self) -> str:
        start = self.index
        html = self.power()
        while self.at({"/"}):
            above = self.without_brackets(start, html)
            self.index += 1
            below_start = self.index
            below = self.power()
            html = fraction(above, self.without_brackets(below_start, below))
            start = -1  # what has become a fraction has no brackets any more
        return html

    def power(self) -> str:
        html = self.primary()
        while not self.at_end():
            kind, text = self.tokens[self.index]
            if kind == "upper" or self.at({"^", "′"}):
                self.index += 1
                script = (
                    scripts(text.translate(UPPER)) if kind == "upper" else "<mo>′</mo>" if text == "′" else self.power()
                )
                html = f"<msup>{html}<mrow>{script}</mrow></msup>"
            elif kind == "lower" or self.at({"_", "["}):
                self.index += 1
                if kind == "lower":
                    script = scripts(text.translate(LOWER))
                else:
                    script = self.primary() if text == "_" else self.inside("]").removesuffix(bracket("]"))
                html = f"<msub>{html}<mrow>{script}</mrow></msub>"
            else:
                return html
        return html

    def primary(self) -> str:
        if self.at_end():
            return ""
        kind, text = self.tokens[self.index]
        self.index += 1
        if kind == "number":
            return f"<mn>{text}</mn>"
        if kind == "word":
            return identifier(text)
        if text in "([|" and kind == "sign":
            closing = {"(": ")", "[": "]", "|": "|"}[text]
            return f"<mrow>{bracket(text)}{self.inside(closing)}</mrow>"
        if text == "√":
            start = self.index
            return f"<msqrt>{self.without_brackets(start, self.power())}</msqrt>"
        if text == "∂":
            return f"<mrow><mo>∂</mo>{self.power()}</mrow>"
        return "<mo>∑</mo>" if text == "Σ" else bracket(text)

    def without_brackets(self, start: int, html: str) -> str:
        """`html` of the tokens since `start`, without the brackets that enclose all of them."""
        opening, closing = f"<mrow>{bracket('(')}", f"{bracket(')')}</mrow>"
        depth = 0
        for i in range(start, self.index) if start >= 0 else ():
            depth += {"(": 1, ")": -1}.get(self.tokens[i][1], 0)
            if depth == 0 and i < self.index - 1:
                return html
        return html.removeprefix(opening).removesuffix(closing) if start >= 0 and html.startswith(opening) else html

    def operator(self) -> str:
        self.index += 1
        return bracket(self.tokens[self.index - 1][1])

    def at(self, signs: set[str]) -> bool:
        return not self.at_end() and self.tokens[self.index][0] == "sign" and self.tokens[self.index][1] in signs

    def at_end(self) -> bool:
        return self.index >= len(self.tokens)


def fraction(above: str, below: str) -> str:
    return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"


def identifier(text: str) -> str:
    """A name. That of one letter is set in the page's own italics: some fonts for formulas have no h."""
    variant = ' mathvariant="normal"' if len(text) == 1 else ""
    return f"<mi{variant}>{escape(text)}</mi>"


def bracket(sign: str) -> str:
    """A sign as an operator; brackets keep the height of a line."""
    return f'<mo stretchy="false">{sign}</mo>' if sign in "()[]|" else f"<mo>{escape(sign)}</mo>"


def scripts(text: str) -> str:
    """The signs, digits and letters of an upper or lower index."""
    return "".join(
        f"<mn>{part}</mn>" if part.isdigit() else f"<mo>{part}</mo>" if part in "−+" else identifier(part)
        for part in re.findall(r"\d+|\D", text)
    )
