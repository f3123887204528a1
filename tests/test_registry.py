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
    component, problems = make().parse("model", {"name": "net", "width": 2})
    assert problems == [] and component.build(num_classes=10, unwanted=1) == (10, 2)


def test_a_component_has_its_defaults_and_is_yaml_again():
    component, _ = make().parse("model", {"name": "net"})
    assert component.arguments == {"width": 4} and component.as_yaml() == {"name": "net", "width": 4}
    assert make().parse("model", component.as_yaml())[0] == component


def test_a_second_builder_of_a_name_is_refused():
    registry = make()

    def net(): ...

    with pytest.raises(ConfigError, match="registered twice"):
        registry.register(net)


def test_supplied_arguments_are_not_the_users():
    assert list(make().arguments("net")) == ["width"]
    assert make().parse("model", {"name": "net", "num_classes": 3})[1] == [
        "model.num_classes: no such key; valid here: width"
    ]


def test_unknown_name_lists_near_matches():
    assert make().parse("model", {"name": "nett"})[1] == ["model.name: no 'nett'; did you mean net?"]
    with pytest.raises(ConfigError, match="did you mean net"):
        make()["nett"]


@dataclass(frozen=True)
class ForEveryModel:
    note: str | None = None
    loud: bool = False

    def find_problems(self) -> list[str]:
        return ["loud: true was given; expected a note to shout"] if self.loud and self.note is None else []


def make_shared() -> Registry:
    registry = Registry("model", supplied=("num_classes",), shared=ForEveryModel)

    @registry.register
    def net(*, num_classes: int, width: int = 1):
        return num_classes, width

    return registry


def test_shared_keys_stand_beside_any_entrys_own_and_reach_no_builder():
    registry = make_shared()
    component, problems = registry.parse("model", {"name": "net", "width": 2, "note": "wide"})
    assert problems == []
    assert component.build(num_classes=10) == (10, 2)
    assert component.shared == ForEveryModel("wide") and component.arguments == {"width": 2}
    assert registry.parse("model", {"name": "net", "note": 3})[1] == ["model.note: 3 was given; expected str or null"]
    assert list(registry.arguments("net")) == ["width"]


def test_shared_keys_that_do_not_go_together_are_told_with_their_path():
    told = ["model.loud: true was given; expected a note to shout"]
    assert make_shared().parse("model", {"name": "net", "loud": True}) == (None, told)


def test_an_argument_with_the_name_of_a_shared_key_is_refused():
    def other(*, note: str = ""): ...

    with pytest.raises(ConfigError, match="model 'other': its argument note is a key of every model; rename it"):
        make_shared().register(other)
