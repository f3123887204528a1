"""Networks, one family a file. Importing this package fills `MODELS` and `INITS`."""

from cnnlab.models import (  # noqa: F401
    alexnet,
    backbones,
    densenet,
    googlenet,
    init,
    lenet,
    linear,
    mobilenet,
    plain,
    preact_resnet,
    residual_net,
    residual_variants,
    resnet,
    shufflenet,
    vgg,
    xception,
)
from cnnlab.models.registry import INITS, MODELS

__all__ = ["INITS", "MODELS"]
