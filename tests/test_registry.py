from __future__ import annotations

from dataclasses import dataclass

import pytest

from cnnlab.errors import ConfigError
from cnnlab.registry import Registry
from cnnlab.signature import Count


def make() -> Registry:
    registry = Registry("model", supplied=("num_classes",))

    @registry.register
    def net(*, num_classes: int, width: Count = 4):
        return num_classes, width

    return registry


def test_build_joins_what_yaml_and_what_the_dataset_say():
    assert make().build({"name": "net", "width": 2}, num_classes=10, unwanted=1) == (10, 2)


def test_a_second_builder_of_a_name_is_refused():
    registry = make()

    def net(): ...

    with pytest.raises(ConfigError, match="registered twice"):
        registry.register(net)


def test_supplied_arguments_are_not_the_users():
    assert list(make().arguments("net")) == ["width"]
    assert make().check("model", {"name": "net", "num_classes": 3}) == [
        "model.num_classes: no such key; valid here: width"
    ]


def test_unknown_name_lists_near_matches():
    assert make().check("model", {"name": "nett"}) == ["model.name: no 'nett'; did you mean net?"]
    with pytest.raises(ConfigError, match="did you mean net"):
        make()["nett"]


def test_shared_keys_stand_beside_any_entrys_own_and_reach_no_builder():
    @dataclass(frozen=True)
    class ForEveryModel:
        note: str | None = None

    registry = Registry("model", supplied=("num_classes",), shared=ForEveryModel)

    @registry.register
    def net(*, num_classes: int, width: int = 1):
        return num_classes, width

    given = {"name": "net", "width": 2, "note": "wide"}
    assert registry.check("model", given) == []
    assert registry.build(given, num_classes=10) == (10, 2)
    assert registry.read_shared(given) == ForEveryModel("wide")
    assert registry.check("model", {"name": "net", "note": 3}) == ["model.note: 3 was given; expected str or null"]
    assert list(registry.arguments("net")) == ["width"]
