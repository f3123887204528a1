"""Networks, one family a file. Importing this package fills `MODELS`."""

from cnnlab.models import lenet, plain  # noqa: F401
from cnnlab.models.registry import INITS, MODELS

__all__ = ["INITS", "MODELS"]
