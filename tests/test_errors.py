"""Messages: whatever is in a name, a terminal is only written on."""

from __future__ import annotations

import pickle

import pytest

from cnnlab.errors import ConfigError, DataError, abridge, format_bytes, format_list, printable

RED = "\x1b[31mcat\x1b[0m"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("café 猫 🐈", "café 猫 🐈"),
        (RED, r"\x1b[31mcat\x1b[0m"),
        ("a\nb\rc\td\x00\x7f\x9b", r"a\nb\rc\td\x00\x7f\x9b"),
        ("evil\u202egnp.exe", r"evil\u202egnp.exe"),
        ("no\xa0break\u3000wide", "no\xa0break\u3000wide"),
        ("\udcff.png", r"\udcff.png"),
        (12, "12"),
    ],
)
def test_names_are_written_and_do_nothing(name, shown):
    assert printable(name) == shown
    assert abridge([name]) == shown and format_list("files", [name]) == f"files (1): {shown}"


def test_messages_of_errors_keep_their_lines_and_nothing_else():
    assert str(DataError(f"first: {RED}\n  second")) == "first: \\x1b[31mcat\\x1b[0m\n  second"
    assert str(ConfigError(f"a: {RED}")) == r"a: \x1b[31mcat\x1b[0m"
    both = pickle.loads(pickle.dumps(ConfigError([f"a: {RED}", "b"])))
    assert "\x1b" not in str(both) and "2 problems" in str(both)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (94_100, "94.1 kB"), (67_108_864, "67.1 MB"), (2_400_000_000, "2.4 GB")],
)
def test_bytes_in_the_unit_that_fits(number, text):
    assert format_bytes(number) == text
