from __future__ import annotations

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
