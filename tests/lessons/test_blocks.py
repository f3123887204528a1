"""Blocks and parameters: what each lesson claims of modules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnlab.lessons import block, constants, files, initialization, layers, parameters, sequential, tied

few = st.integers(1, 5)


def test_a_block_and_its_misspelt_twin():
    values = block.compute()
    assert values["output"] == (2, 10)
    assert values["parameters"]["hidden.weight"] == (256, 20)
    assert values["count"] == 20 * 256 + 256 + 256 * 10 + 10
    assert values["all_have_gradients"]
    assert "forward" in values["complaint"]


def test_own_sequential_is_torch_s():
    values = sequential.compute()
    assert torch.equal(values["own"], values["theirs"])
    assert values["names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert values["names_in_list"] == []


def test_constants_are_saved_and_not_trained():
    values = constants.compute()
    assert "mixture" in values["saved"] and "mixture" not in values["trained"]
    assert values["learned_has_gradient"] and not values["mixture_has_gradient"]
    halvings = [row[1] for row in values["rows"]]
    assert halvings == sorted(halvings) and halvings[0] < halvings[-1]
    assert all(norm <= 1 for _, _, norm in values["rows"])


@pytest.mark.parametrize("stages", [1, 3])
def test_walking_the_tree_finds_what_torch_finds(stages):
    values = parameters.compute(stages=stages)
    assert [name for name, _, _ in values["found"]] == values["torch_finds"] == values["state"]
    assert len(values["found"]) == 2 * stages + 2
    assert values["bias_gradient_before"] is None
    assert values["bias_gradient_after"] == 2  # the bias enters a sum over two rows once each


def test_starts_have_the_spread_that_they_promise():
    rows = {name: row for name, *row in initialization.compute(features=400, hidden=100)["rows"]}
    stds = {name: std for name, (_, std, _) in rows.items()}
    assert stds["torch"] == pytest.approx((1 / 3 / 400) ** 0.5, rel=0.02)
    assert stds["normal"] == pytest.approx(0.01, rel=0.02)
    assert stds["xavier"] == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert stds["own"] == pytest.approx(1 / 20, rel=0.02)
    assert rows["constant"][:2] == [1, 0]


def test_only_equal_weights_stay_equal():
    distinct = {name: rows for name, _, _, rows in initialization.compute()["rows"]}
    assert distinct == {"torch": 8, "normal": 8, "constant": 1, "xavier": 8, "own": 8}


def test_tied_gradients_add():
    values = tied.compute()
    torch.testing.assert_close(values["tied"], values["first"] + values["second"])
    assert values["same_tensor"] and values["seen_in_the_other"] == 100
    assert (values["count_tied"], values["count_apart"]) == (9, 18)


def test_centered_layer():
    values = layers.compute()
    assert values["centered"].tolist() == [-2, -1, 0, 1, 2]
    assert abs(values["mean_of_output"]) < 1e-7
    assert torch.equal(values["own"], values["theirs"])  # the same start from the same seed


@settings(max_examples=25, deadline=None)
@given(few, few, few)
def test_own_linear_is_torch_s(n, inputs, outputs):
    own, theirs = layers.Linear(inputs, outputs).double(), nn.Linear(inputs, outputs).double()
    theirs.load_state_dict(own.state_dict())
    x = torch.randn(n, inputs, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(own(x), theirs(x))
    ours = torch.autograd.grad(own(x).square().sum(), [x, *own.parameters()])
    expected = torch.autograd.grad(theirs(x).square().sum(), [x, *theirs.parameters()])
    torch.testing.assert_close(ours, expected)


def test_files_give_back_what_was_saved():
    values = files.compute(hidden=8)
    saved, loaded = values["saved"], values["loaded"]
    assert torch.equal(saved["a tensor"], loaded["a tensor"])
    assert all(map(torch.equal, saved["a list of tensors"], loaded["a list of tensors"]))
    for name in ("a dict of tensors", "a model's parameters"):
        assert saved[name].keys() == loaded[name].keys()
        assert all(torch.equal(saved[name][key], loaded[name][key]) for key in saved[name])
    assert values["equal_after"] and not values["equal_before"]
