"""Networks, one family a file. Importing this package fills `MODELS`."""

from cnnlab.models import (  # noqa: F401
    alexnet,
    densenet,
    googlenet,
    lenet,
    linear,
    mobilenet,
    plain,
    shufflenet,
    vgg,
    xception,
)
from cnnlab.models.registry import INITS, MODELS

__all__ = ["INITS", "MODELS"]
