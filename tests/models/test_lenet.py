from cnnlab.models.shapes import require_size
from tests.models.pinned import MNIST
from tests.models.published import build


def test_shapes_for_28x28_images():
    layers = require_size(build("lenet", MNIST), 1, 28)
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
