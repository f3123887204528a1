"""The two registries that model files fill: networks, and ways to initialise them."""

from dataclasses import dataclass, field
from typing import Literal

from cnnlab.registry import Registry
from cnnlab.signature import Count, Fraction, Whole


@dataclass(frozen=True)
class ForEveryModel:
    """Keys that stand beside any network's own: what fine-tuning needs."""

    freeze: Literal["backbone"] | list[str | int] = field(default_factory=list)  # starts of parameters' names
    unfreeze_after: str | None = None  # a duration, such as "5 epochs"; None: never
    head: list[Count] = field(default_factory=list)  # widths of hidden layers in the place of the last layer
    head_dropout: Fraction = 0.0  # in front of the last layer
    feature_views: Literal["auto"] | Whole = "auto"  # views of each image whose features are kept; 0: none


# The dataset tells these; a builder asks for those it needs.
MODELS = Registry("model", supplied=("num_classes", "in_channels", "image_size"), shared=ForEveryModel)

# An initialiser is called with each module in turn, as `nn.Module.apply` does.
INITS = Registry("model.init", supplied=("module",))
