from __future__ import annotations

from typing import Annotated, Literal

import pytest

from cnnlab.durations import Duration
from cnnlab.registry import Registry
from cnnlab.signature import (
    Count,
    Fraction,
    Interval,
    OneOf,
    Positive,
    Share,
    as_yaml,
    describe,
    keyword_arguments,
    read,
    read_arguments,
    suggest,
)


def build(
    *,
    lr: Positive,
    p: Fraction = 0.5,
    size: Count | None = None,
    kind: Literal["a", "b"] = "a",
    names: list[str] = (),
    scale: Interval[Share] = (0.5, 1.0),
): ...


PAIR = "list of 2 float above 0 and at most 1 in ascending order"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"lr": 0}, "x.lr: 0 was given; expected float above 0"),
        ({"lr": True}, "x.lr: True was given; expected float above 0"),
        ({"lr": float("nan")}, "x.lr: nan was given; expected float above 0"),
        ({"lr": "fast"}, "x.lr: 'fast' was given; expected float above 0"),
        ({"lr": 1, "p": 1.01}, "x.p: 1.01 was given; expected float at least 0 and at most 1"),
        ({"lr": 1, "size": 0}, "x.size: 0 was given; expected int at least 1 or null"),
        ({"lr": 1, "size": 2.0}, "x.size: 2.0 was given; expected int at least 1 or null"),
        ({"lr": 1, "kind": "c"}, "x.kind: 'c' was given; expected one of a, b"),
        ({"lr": 1, "names": [1]}, "x.names: [1] was given; expected list of str"),
        ({"lr": 1, "scale": [0.5, 0.2]}, f"x.scale: [0.5, 0.2] was given; expected {PAIR}"),
        ({"lr": 1, "scale": [0.5]}, f"x.scale: [0.5] was given; expected {PAIR}"),
        ({"lr": 1, "scale": [0, 1]}, f"x.scale: [0, 1] was given; expected {PAIR}"),
        ({"lr": "???"}, "x.lr: a value is needed: float above 0; give x.lr=…"),
        ({"lr": 1, "sizes": 3}, "x.sizes: no such key; did you mean size?"),
        ({}, "x.lr: missing; expected float above 0"),
    ],
)
def test_each_problem_says_what_was_given_and_expected(given, problem):
    assert read_arguments("x", given, keyword_arguments(build))[1] == [problem]


def test_what_is_right_passes():
    given = {"lr": 1, "p": 0, "size": None, "kind": "b", "names": ["a"], "scale": [0.2, 0.2]}
    found, problems = read_arguments("x", given, keyword_arguments(build))
    assert problems == []
    assert found == given | {"scale": (0.2, 0.2)}  # a tuple is what its annotation says
    assert as_yaml(found) == given


def test_all_problems_are_told_together():
    assert len(read_arguments("x", {"lr": -1, "p": 2, "bogus": 1}, keyword_arguments(build))[1]) == 3


def test_suggest_names_near_matches_else_everything():
    assert suggest("resnet81", ["resnet18", "alexnet"]) == "did you mean resnet18?"
    assert suggest("zzz", ["resnet18", "alexnet"]) == "valid here: alexnet, resnet18"


def test_describe_reads_as_words():
    assert describe(Positive | None) == "float above 0 or null"


def test_a_type_that_parses_text_is_read_once_and_says_itself_what_is_wrong():
    assert read(Duration | None, "2 epochs") == Duration(2, "epoch")
    assert read(Duration | None, None) is None
    assert as_yaml(read(Duration, "500 steps")) == "500 steps"
    with pytest.raises(ValueError, match="'soon' was given; expected a number above 0 and a unit"):
        read(Duration | None, "soon")
    with pytest.raises(ValueError, match="^$"):
        read(Duration | None, 3)


def test_a_name_is_among_those_that_are_registered_when_it_is_read():
    names = Registry("init")

    def kaiming(): ...

    def mine(): ...

    names.register(kaiming)
    annotation = Annotated[str, OneOf(names)]
    with pytest.raises(ValueError, match="no 'kaimin'; did you mean kaiming?"):
        read(annotation, "kaimin")
    names.register(mine)
    assert read(annotation | None, "mine") == "mine"


def test_a_bare_off_is_what_yaml_reads_as_false():
    assert read(Literal["auto", "off"], False) == "off"
    with pytest.raises(ValueError):
        read(Literal["auto", "off"], True)
