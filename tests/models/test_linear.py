import pytest
import torch
from torch import nn

from cnnlab.models import MODELS
from cnnlab.models.linear import ACTIVATIONS
from cnnlab.signature import describe
from tests.conftest import build_from
from tests.models.pinned import MNIST
from tests.models.published import build


def build_with_numbers(name, facts=MNIST, **arguments):
    torch.manual_seed(0)
    return build_from(MODELS, {"name": name, **arguments}, **facts)


def test_linear_is_a_matrix_product():
    network = build_with_numbers("linear")
    images = torch.randn(3, 1, 28, 28)
    weight, bias = network[1].weight, network[1].bias
    torch.testing.assert_close(network(images), images.reshape(3, 784) @ weight.T + bias)


def test_two_stacked_linear_layers_equal_one():
    _, first, second = build_with_numbers("stacked_linear", hidden=32).double()
    one = nn.Linear(784, 10).double()
    with torch.no_grad():
        one.weight.copy_(second.weight @ first.weight)
        one.bias.copy_(second.weight @ first.bias + second.bias)
    x = torch.randn(5, 784, dtype=torch.double)
    torch.testing.assert_close(second(first(x)), one(x))


def test_two_times_three_is_six():
    """One number in, one out: 3 · (2 · x) = 6 · x."""
    network = build_with_numbers("stacked_linear", {"num_classes": 1, "in_channels": 1, "image_size": 1}, hidden=1)
    with torch.no_grad():
        for layer, weight in zip(network[1:], (2.0, 3.0), strict=True):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    x = torch.tensor([1.0, -2.0, 0.5]).reshape(3, 1, 1, 1)
    assert network(x).flatten().tolist() == [6.0, -12.0, 3.0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_between_them_breaks_the_equality(activation):
    """A linear map (an affine one, with biases) keeps midpoints; a network with an activation does not."""
    network = build_with_numbers("mlp", hidden=[32], activation=activation).double().eval()
    x, y = torch.randn(2, 8, 1, 28, 28, dtype=torch.double)
    midpoints = (network(x) + network(y)) / 2
    assert (network((x + y) / 2) - midpoints).abs().max() > 1e-4


def test_an_activation_may_have_any_name_of_the_table_and_no_other():
    words = describe(MODELS.arguments("mlp")["activation"].annotation)
    assert words == "one of " + ", ".join(ACTIVATIONS)


def test_mlp_has_a_layer_for_each_size():
    network = build("mlp", MNIST, hidden=[120, 84], activation="tanh")
    sizes = [(layer.in_features, layer.out_features) for layer in network if isinstance(layer, nn.Linear)]
    assert sizes == [(784, 120), (120, 84), (84, 10)]
    assert sum(isinstance(layer, nn.Tanh) for layer in network) == 2


def test_mlp_without_hidden_layers_is_linear():
    mlp, linear = build("mlp", MNIST, hidden=[]), build("linear", MNIST)
    assert [tuple(p.shape) for p in mlp.parameters()] == [tuple(p.shape) for p in linear.parameters()]
    assert len(mlp) == len(linear)
