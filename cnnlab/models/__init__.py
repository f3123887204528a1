"""Networks, one family a file. Importing this package fills `MODELS` and `INITS`."""

from cnnlab.models import (  # noqa: F401
    init,
    lenet,
    plain,
    preact_resnet,
    residual_net,
    residual_variants,
    resnet,
)
from cnnlab.models.registry import INITS, MODELS

__all__ = ["INITS", "MODELS"]
