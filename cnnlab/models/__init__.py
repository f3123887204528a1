"""Networks, one family a file. Importing this package fills `MODELS`, `INITS` and `DATA_INITS`."""

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
    whitened_cnn,
    whitening,
    xception,
)
from cnnlab.models.registry import DATA_INITS, INITS, MODELS

__all__ = ["DATA_INITS", "INITS", "MODELS"]
