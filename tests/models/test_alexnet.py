import pytest

from cnnlab.errors import ConfigError
from cnnlab.models.shapes import require_size
from tests.models.published import assert_takes_torchvision_weights, build, layers_of


def test_takes_torchvision_weights():
    assert_takes_torchvision_weights("alexnet", 96)


def test_five_convolutions_leave_6x6_maps_of_224x224_images():
    layers = layers_of(build("alexnet"), 224)
    assert layers["features.0"].out_shape == (64, 55, 55)
    assert layers["features.12"].out_shape == (256, 6, 6)


def test_an_image_of_cifar_is_too_small():
    with pytest.raises(ConfigError, match=r"'features\.12' \(MaxPool2d\).*smallest image size that works is 63"):
        require_size(build("alexnet"), 3, 32)
    require_size(build("alexnet"), 3, 63)
