"""Networks, one family a file. Importing this package fills `MODELS`."""

from cnnlab.models import (  # noqa: F401
    lenet,
    plain,
    preact_resnet,
    residual_net,
    residual_variants,
    resnet,
)
from cnnlab.models.registry import INITS, MODELS

__all__ = ["INITS", "MODELS"]
