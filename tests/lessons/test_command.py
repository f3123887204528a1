"""`cnnlab lesson` as a user types it: what is printed, written and refused."""

from __future__ import annotations

import pytest

from cnnlab.lessons.command import parse_value, run
from cnnlab.lessons.course import COURSE


def test_the_list_names_every_lesson_in_order(capsys):
    assert run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == list(COURSE)


def test_a_lesson_prints_its_numbers_and_its_command(capsys):
    assert run(["padding"]) == 0
    out = capsys.readouterr().out
    assert "cnnlab lesson padding padding=1" in out
    assert "91  168  224  215  127" in out
    assert "5·3 + 6·4 + 8·2 + 9·4 = 91" in out


def test_all_prints_every_lesson(capsys):
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
        (["block", "--plot"], ["no picture", "edges"]),
        (["padding", "--cod"], ["did you mean --code?"]),
        (["padding", "--html", "out"], ["whole course"]),
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


def test_code_prints_the_lines_that_do_the_work(capsys):
    assert run(["cross_correlation", "--code"]) == 0
    out = capsys.readouterr().out
    assert "def corr2d(" in out and "def compute(" in out and "def show" not in out


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
