import torch

from cnnlab.models.googlenet import inception, inception_a
from cnnlab.models.shapes import require_size
from tests.models.pinned import CIFAR, IMAGENET, MNIST
from tests.models.published import assert_takes_torchvision_weights, build


def inputs_of_layers(name, facts, **arguments):
    network = build(name, facts, **arguments)
    layers = require_size(network, facts["in_channels"], facts["image_size"])
    return {layer.name: layer.in_shape for layer in layers}


def test_googlenet_takes_torchvision_weights():
    assert_takes_torchvision_weights("googlenet", 64, {"aux_logits": False, "init_weights": False})


def test_googlenet_has_the_maps_of_table_1():
    given = inputs_of_layers("googlenet", IMAGENET)
    assert given["inception3a.branch1.conv"] == (192, 28, 28)
    assert given["inception3b.branch1.conv"] == (256, 28, 28)
    assert given["maxpool3"] == (480, 28, 28)
    assert given["inception4b.branch1.conv"] == (512, 14, 14)
    assert given["inception4e.branch1.conv"] == (528, 14, 14)
    assert given["maxpool4"] == (832, 14, 14)
    assert given["avgpool"] == (1024, 7, 7)


def test_small_stem_leaves_8x8_maps_of_32x32_images():
    given = inputs_of_layers("googlenet", CIFAR, stem="small")
    assert given["inception3a.branch1.conv"] == (192, 32, 32)
    assert given["avgpool"] == (1024, 8, 8)


def test_branches_are_stacked_in_the_order_of_the_table():
    block = inception(4, 1, 2, 3, 4, 5, 6).eval()
    images = torch.randn(2, 4, 7, 7)
    stacked = block(images)
    assert stacked.shape == (2, 1 + 3 + 5 + 6, 7, 7)
    for name, part in zip(block, stacked.split([1, 3, 5, 6], dim=1), strict=True):
        assert torch.equal(part, block[name](images))


def test_inception_net_has_88_maps_and_1408_features():
    given = inputs_of_layers("inception_net", MNIST)
    assert given["4"] == (88, 12, 12)
    assert given["8"] == (88, 4, 4)
    assert given["9"] == (1408,)


def test_inception_a_is_linear_inside():
    block = inception_a(3).double()
    x, y, zero = (
        torch.randn(1, 3, 6, 6, dtype=torch.double),
        torch.randn(1, 3, 6, 6, dtype=torch.double),
        torch.zeros(1, 3, 6, 6, dtype=torch.double),
    )
    torch.testing.assert_close(block(x + y) + block(zero), block(x) + block(y))
