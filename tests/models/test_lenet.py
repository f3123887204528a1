from tests.models.pinned import MNIST
from tests.models.published import build, layers_of


def test_shapes_for_28x28_images():
    layers = layers_of(build("lenet", MNIST), 28, in_channels=1).values()
    shapes = [layer.out_shape for layer in layers if layer.in_shape != layer.out_shape]
    assert shapes == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (400,),
        (120,),
        (84,),
        (10,),
    ]
