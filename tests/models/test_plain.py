import torch
from torch import nn

from tests.models.pinned import MNIST
from tests.models.published import build, layers_of


def test_two_conv_flattens_320_features():
    layers = layers_of(build("two_conv", MNIST), 28, in_channels=1)
    assert layers["6"].in_shape == (20, 4, 4)
    assert layers["7"].in_shape == (320,)


def test_mnist_cnn_flattens_180_features():
    layers = layers_of(build("mnist_cnn", MNIST), 28, in_channels=1)
    assert layers["9"].in_shape == (20, 3, 3)
    assert layers["10"].in_shape == (180,)
    assert layers["11"].in_shape == (16,)


def test_pooling_and_relu_may_change_places():
    """Same outputs and same gradients: what lets each stage pool first."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weights = torch.randn(2, 3, 4, 4)
    pooled_first, relu_first = nn.ReLU()(nn.MaxPool2d(2)(x)), nn.MaxPool2d(2)(nn.ReLU()(y))
    assert torch.equal(pooled_first, relu_first)
    (pooled_first * weights).sum().backward()
    (relu_first * weights).sum().backward()
    assert torch.equal(x.grad, y.grad)
