"""Networks, one family a file. Importing this package fills `MODELS` and `INITS`."""

from cnnlab.models import init, lenet, plain  # noqa: F401
from cnnlab.models.registry import INITS, MODELS

__all__ = ["INITS", "MODELS"]
