import torch

from cnnlab.models.googlenet import inception, inception_a
from tests.models.pinned import CIFAR, MNIST
from tests.models.published import assert_takes_torchvision_weights, build, layers_of


def test_googlenet_takes_torchvision_weights():
    assert_takes_torchvision_weights("googlenet", 64, {"aux_logits": False, "init_weights": False})


def test_googlenet_has_the_maps_of_table_1():
    layers = layers_of(build("googlenet"), 224)
    assert layers["inception3a.branch1.conv"].in_shape == (192, 28, 28)
    assert layers["inception3b.branch1.conv"].in_shape == (256, 28, 28)
    assert layers["maxpool3"].in_shape == (480, 28, 28)
    assert layers["inception4b.branch1.conv"].in_shape == (512, 14, 14)
    assert layers["inception4e.branch1.conv"].in_shape == (528, 14, 14)
    assert layers["maxpool4"].in_shape == (832, 14, 14)
    assert layers["avgpool"].in_shape == (1024, 7, 7)


def test_small_stem_leaves_8x8_maps_of_32x32_images():
    layers = layers_of(build("googlenet", CIFAR, stem="small"), 32)
    assert layers["inception3a.branch1.conv"].in_shape == (192, 32, 32)
    assert layers["avgpool"].in_shape == (1024, 8, 8)


def test_branches_are_stacked_in_the_order_of_the_table():
    block = inception(4, 1, 2, 3, 4, 5, 6).eval()
    images = torch.randn(2, 4, 7, 7)
    stacked = block(images)
    assert stacked.shape == (2, 1 + 3 + 5 + 6, 7, 7)
    for name, part in zip(block, stacked.split([1, 3, 5, 6], dim=1), strict=True):
        assert torch.equal(part, block[name](images))


def test_inception_net_has_88_maps_and_1408_features():
    layers = layers_of(build("inception_net", MNIST), 28, in_channels=1)
    assert layers["4"].in_shape == (88, 12, 12)
    assert layers["8"].in_shape == (88, 4, 4)
    assert layers["9"].in_shape == (1408,)


def test_inception_a_is_linear_inside():
    block = inception_a(3).double()
    x, y = torch.randn(2, 1, 3, 6, 6, dtype=torch.double)
    zero = torch.zeros_like(x)
    torch.testing.assert_close(block(x + y) + block(zero), block(x) + block(y))
