import torch
from torch import nn

from cnnlab.models.xception import Block, separable_conv_bn
from tests.models.pinned import CIFAR
from tests.models.published import build, layers_of


def test_maps_of_figure_5():
    layers = layers_of(build("xception"), 299)
    assert layers["stem.1.0"].in_shape == (32, 149, 149)
    assert layers["entry.0.shortcut.0"].in_shape == (64, 147, 147)
    assert layers["middle.0.shortcut"].in_shape == (728, 19, 19)
    assert layers["exit.0.shortcut.0"].in_shape == (728, 19, 19)
    assert layers["avgpool"].in_shape == (2048, 10, 10)


def test_36_convolutions_besides_the_shortcuts():
    """Section 4 counts a separable convolution as one."""
    network = build("xception")
    convs = [module for module in network.stem.modules() if isinstance(module, nn.Conv2d)]
    separable = [name for name, _ in network.named_modules() if name.endswith("pointwise")]
    assert len(convs) + len(separable) == 36


def test_a_separable_convolution_is_a_convolution_whose_kernels_are_products():
    layer = separable_conv_bn(3, 5)
    image = torch.randn(2, 3, 8, 8)
    # (5, 3, 1, 1) · (1, 3, 3, 3): map o reads map i through depthwise kernel i, scaled by pointwise[o, i]
    kernels = layer.pointwise.weight * layer.depthwise.weight.transpose(0, 1)
    whole = nn.functional.conv2d(image, kernels, padding=1)
    torch.testing.assert_close(layer.pointwise(layer.depthwise(image)), whole, rtol=1e-4, atol=1e-5)


def test_a_block_leaves_its_input_as_it_was():
    block = Block((4, 4, 4), halves=False).eval()
    x = torch.randn(2, 4, 6, 6)
    given = x.clone()
    torch.testing.assert_close(block(x) - block.residual(given), given, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, given)


def test_small_stem_leaves_2x2_maps_of_32x32_images():
    layers = layers_of(build("xception", CIFAR, stem="small"), 32)
    assert layers["entry.0.shortcut.0"].in_shape == (64, 32, 32)
    assert layers["avgpool"].in_shape == (2048, 2, 2)
