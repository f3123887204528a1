"""`cnnlab lesson` as a user types it: what is printed, written and refused."""

from __future__ import annotations

import pytest

from cnnlab.lessons import command
from cnnlab.lessons.command import parse_value, run
from cnnlab.lessons.course import COURSE
from tests.lessons.conftest import take_computed


def test_the_list_names_every_lesson_in_order(capsys):
    assert run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == list(COURSE)
    chapters = [line for line in lines if line[:1].isdigit()]
    assert chapters[0] == "1 What a convolution is  (start here)"
    assert chapters[1] == "2 Learning, from a line on  (stands on 1)"


def test_a_lesson_prints_its_numbers_and_its_command(capsys):
    assert run(["padding"]) == 0
    out = capsys.readouterr().out
    assert "cnnlab lesson padding padding=1" in out
    assert "91  168  224  215  127" in out
    assert "5·3 + 6·4 + 8·2 + 9·4 = 91" in out


def test_all_prints_every_lesson(capsys, monkeypatch):
    monkeypatch.setattr(command, "compute", take_computed)
    assert run(["all"]) == 0
    out = capsys.readouterr().out
    positions = [out.index(f"{lesson.title}\n─") for lesson in COURSE.values()]
    assert positions == sorted(positions)


def test_keys_change_the_computation(capsys):
    assert run(["conv", "in_channels=3", "out_channels=4", "kernel_size=5", "size=12"]) == 0
    assert "(1, 4, 8, 8)" in capsys.readouterr().out
    assert run(["shapes", "kernel_size=[5,5]", "padding=[2,2]", "stride=[1,1]"]) == 0
    assert "cnnlab lesson shapes size=8 kernel_size=[5,5] padding=[2,2] stride=[1,1]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3e-2", 0.03),
        ("0.5", 0.5),
        ("[1,2]", [1, 2]),
        ("max", "max"),
        ("null", None),
        ("true", True),
    ],
)
def test_values_are_yaml(text, value):
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["paddin"], ["did you mean padding?"]),
        (["conv", "sise=3", "kernel_size=0"], ["2 problems", "did you mean size?", "int at least 1"]),
        (["conv", "size=2"], ["lesson conv", "Kernel size"]),
        (["conv", "size"], ["expected key=value"]),
        (["conv", "size=3", "size=4"], ["size: given twice"]),
        (["conv", "size=[1"], ["cannot be read"]),
        (["learn_kernel", "lr=nan"], ["expected float above 0"]),
        (["shapes", "stride=[1,2,3]"], ["lesson shapes: stride", "expected list of 2 int"]),
        (["pooling", "padding=[2,2]"], ["half of window"]),
        (["pooling", "mode=min"], ["one of max, average"]),
        (["cross_correlation", "kernel=[[1,2],[3]]"], ["torch refuses"]),
        (["cross_correlation", "kernel=[[1,2,3,4]]"], ["kernel: 1×4 was given", "3×3"]),
        (["cross_entropy", "logits=[1,2]"], ["weight: 3 numbers were given", "2 logits"]),
        (["cross_entropy", "target=3"], ["target: 3 was given; expected at most 2"]),
        (["losses", "targets=[]"], ["at least one number"]),
        (["files", "--plot"], ["no picture", "edges"]),
        (["padding", "--cod"], ["did you mean --code?"]),
        (["padding", "--html", "out", "padding=2"], ["keys do not go with it"]),
        (["padding", "--notebook"], ["a file is needed"]),
        (["padding", "--notebook", "padding.txt"], ["ends in .ipynb"]),
        (["padding", "--check"], ["an answer is needed", "--check 1=3"]),
        (["padding", "--check", "4=3"], ["no exercise '4'", "1=... or 2=... or 3=..."]),
        (["padding", "--check", "1=three"], ["'three' was given; expected a number"]),
        (["cross_correlation", "--check", "2=four"], ["expected 2 numbers, such as 2,3"]),
        (["--check", "1=3"], ["a name is needed"]),
        (["all", "--check", "1=3"], ["belong to one lesson"]),
        (["all", "--html"], ["a folder is needed"]),
        (["all", "seed=1"], ["belong to one lesson"]),
        (["seed=1"], ["a name is needed"]),
    ],
)
def test_mistakes_are_told_with_exit_code_2(arguments, messages, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("cnnlab: ") and captured.out == ""
    for message in messages:
        assert message in captured.err


def test_help_of_the_command_and_of_a_lesson(capsys):
    assert run(["--help"]) == 0
    assert "usage: cnnlab lesson" in capsys.readouterr().out
    assert run(["learn_kernel", "--help"]) == 0
    out = capsys.readouterr().out
    assert "lr=0.03  (float above 0)" in out and "steps=10  (int at least 1)" in out


def test_a_lesson_says_what_it_stands_on_what_comes_next_and_asks(capsys):
    assert run(["padding"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Stands on: cross_correlation. Next: stride.\n")
    assert "Exercise 1: Which padding keeps an image's size under a 7×7 kernel?" in out
    assert "cnnlab lesson padding --check 1=..." in out
    assert "$" not in out


def test_check_says_right_or_what_to_look_at_again(capsys):
    assert run(["padding", "--check", "1=3", "3=3"]) == 0
    assert capsys.readouterr().out == "exercise 1: right\nexercise 3: right\n"
    assert run(["padding", "--check", "answer=3"]) == 0
    assert capsys.readouterr().out == "exercise 1: right\n"
    assert run(["padding", "--check", "1=6", "2=7"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == "exercise 1: not yet. The frame lies on both sides. Solve n + 2p − k + 1 = n for p."
    assert second == "exercise 2: right"


def test_code_prints_a_script(capsys):
    assert run(["cross_correlation", "--code"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("import torch\nfrom torch import Tensor\n\n\ndef corr2d(")
    assert "def compute(" not in out and "def show" not in out and "cnnlab" not in out


def test_html_of_one_lesson_links_to_those_that_are_there(tmp_path, capsys):
    folder = tmp_path / "out"
    assert run(["padding", "--html", str(folder)]) == 0
    assert capsys.readouterr().out == f"page: {folder / 'padding.html'}\n"
    assert {path.name for path in folder.iterdir()} == {
        "padding.html", "padding.svg", "padding-narrow.svg", "style.css",
    }  # fmt: skip
    assert "stride.html" not in (folder / "padding.html").read_text()
    assert run(["stride", "--html", str(folder)]) == 0
    assert '<a href="padding.html">' in (folder / "stride.html").read_text()


def test_plot_writes_a_png_here_or_where_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["edges", "--plot"]) == 0
    assert "picture: edges.png" in capsys.readouterr().out
    assert (tmp_path / "edges.png").read_bytes().startswith(b"\x89PNG")
    assert run(["edges", "--plot", "other.svg", "size=7"]) == 0
    assert (tmp_path / "other.svg").read_text().startswith("<?xml")
    assert {path.name for path in tmp_path.iterdir()} == {"edges.png", "other.svg"}


def test_a_plot_that_cannot_be_written_is_an_error_without_leftovers(tmp_path, capsys):
    assert run(["edges", "--plot", str(tmp_path / "missing" / "edges.png")]) == 6
    assert "cannot be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
