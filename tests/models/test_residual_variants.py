"""Each shortcut and each order against its formula in the paper, written out slowly."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.models import MODELS
from cnnlab.models.init import xavier
from cnnlab.models.residual_variants import ORDERS, SHORTCUTS, Gate, Order, ResidualUnit, Shortcut
from tests.conftest import build_from

CLOSED = 0.0024726  # sigmoid(-6)


def build(name: str = "residual_variants", **arguments) -> nn.Module:
    return build_from(MODELS, {"name": name, **arguments}, num_classes=10, in_channels=3, image_size=32)


def zero_gate_weights(module: nn.Module) -> None:
    if isinstance(module, Gate):
        nn.init.zeros_(module.conv.weight)


def test_every_choice_has_its_entry():
    assert get_args(Shortcut) == tuple(SHORTCUTS)
    assert get_args(Order) == tuple(ORDERS)


# --- Shortcuts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, of_x, of_residual",
    [
        ("identity", 1, 1),
        ("constant_scaling", 0.5, 0.5),
        ("exclusive_gating", 1 - CLOSED, CLOSED),
        ("shortcut_only_gating", 1 - CLOSED, 1),
    ],
)
def test_a_shortcut_weighs_its_input_and_the_residual(name: str, of_x: float, of_residual: float):
    shortcut = SHORTCUTS[name](4, 4, 1).apply(zero_gate_weights)
    x, residual = torch.randn(2, 2, 4, 5, 5).unbind()
    torch.testing.assert_close(shortcut(x, residual), of_x * x + of_residual * residual)


def test_a_gate_depends_on_its_input():
    gate = Gate(3, 3, 1)
    nn.init.dirac_(gate.conv.weight)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(gate(x), torch.sigmoid(x - 6))


def test_initialisation_from_outside_leaves_gates_closed():
    network = build(shortcut="exclusive_gating", depth=8).apply(xavier)
    biases = [module.bias for module in network.modules() if isinstance(module, Gate)]
    assert len(biases) == 3
    assert all(torch.equal(bias, torch.full_like(bias, -6)) for bias in biases)


def test_the_convolution_shortcut_is_linear_in_its_input():
    shortcut = SHORTCUTS["convolution"](4, 4, 1).eval()
    nn.init.dirac_(shortcut.convolution[0].weight)
    x, residual = torch.randn(2, 2, 4, 5, 5).unbind()
    torch.testing.assert_close(shortcut(x, residual), x + residual, rtol=1e-4, atol=1e-4)


def test_the_dropout_shortcut_drops_half_of_the_input_and_none_of_the_residual():
    torch.manual_seed(0)
    shortcut = SHORTCUTS["dropout"](4, 4, 1)
    x, residual = torch.ones(2, 4, 50, 50), torch.full((2, 4, 50, 50), 10.0)
    y = shortcut(x, residual)
    assert set(y.unique().tolist()) == {10.0, 12.0}
    assert (y == 10).float().mean() == pytest.approx(0.5, abs=0.02)  # of 20,000: 5 standard deviations
    assert torch.equal(shortcut.eval()(x, residual), x + residual)


# --- Orders ---------------------------------------------------------------------------------------


def relu(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=0)


FORMULAS = {
    "original": lambda x, c1, c2, n1, n2: relu(x + n2(c2(relu(n1(c1(x)))))),
    "bn_after_addition": lambda x, c1, c2, n1, n2: relu(n2(x + c2(relu(n1(c1(x)))))),
    "relu_before_addition": lambda x, c1, c2, n1, n2: x + relu(n2(c2(relu(n1(c1(x)))))),
    "relu_only_preactivation": lambda x, c1, c2, n1, n2: x + n2(c2(relu(n1(c1(relu(x)))))),
    "full_preactivation": lambda x, c1, c2, n1, n2: x + c2(relu(n2(c1(relu(n1(x)))))),
}


@pytest.mark.parametrize("order", get_args(Order))
def test_a_unit_is_the_formula_of_figure_4(order: Order):
    torch.manual_seed(0)
    unit = ResidualUnit("identity", order, 4, 4, stride=1, is_first=False)
    convs = [module for module in unit.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in unit.modules() if isinstance(module, nn.BatchNorm2d)]
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(unit(x), FORMULAS[order](x, *convs, *norms))


@pytest.mark.parametrize("order", get_args(Order))
def test_a_network_has_as_many_norms_as_convolutions_in_any_order(order: Order):
    network = build(order=order)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == 19


# --- The network ----------------------------------------------------------------------------------


def test_the_defaults_are_resnet20():
    torch.manual_seed(0)
    variants, resnet = build().eval(), build("resnet20").eval()
    weights = resnet.state_dict().values()
    variants.load_state_dict(dict(zip(variants.state_dict(), weights, strict=True)))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(variants(images), resnet(images))


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
def test_any_shortcut_goes_with_any_order(shortcut: Shortcut, order: Order):
    torch.manual_seed(0)
    network = build(depth=8, shortcut=shortcut, order=order)
    network(torch.randn(4, 3, 16, 16)).square().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@pytest.mark.parametrize("depth", [1, 2, 7, 21, 105])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int):
    with pytest.raises(ConfigError, match=f"model.depth: {depth} was given; expected 6n\\+2"):
        build(depth=depth)
