"""The registries that model files fill: networks, and ways to initialise them, from nothing or from images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from cnnlab.durations import Duration
from cnnlab.registry import Registry
from cnnlab.signature import BelowOne, Count, OneOf, Share, Whole

# An initialiser is called with each module in turn, as `nn.Module.apply` does.
INITS: Registry[None] = Registry("init", supplied=("module",))
# What begins with the training images: see `whitening.py`.
DATA_INITS: Registry[None] = Registry("init_from_data", supplied=("model", "images"))


@dataclass(frozen=True)
class ForEveryModel:
    """Keys that stand beside any network's own: how its weights begin, and what fine-tuning needs."""

    init: Annotated[str, OneOf(INITS)] | None = None  # None: as torch initialises
    init_from_data: Annotated[str, OneOf(DATA_INITS)] | None = None  # after `init`, by the training images
    batch_norm_momentum: Share | None = None  # of the newest batch in the running statistics; None: the network's own
    weights: str | None = None  # trained ones, in the place of `init` and `init_from_data`: see `weights.py`
    freeze: Literal["backbone"] | list[str | int] = field(default_factory=list)  # starts of parameters' names
    unfreeze_after: Duration | None = None  # None: never
    freeze_after: dict[str | int, Duration] | None = None  # by starts of parameters' names
    head: list[Count] = field(default_factory=list)  # widths of hidden layers in the place of the last layer
    head_dropout: BelowOne = 0.0  # in front of the last layer
    feature_views: Literal["auto"] | Whole = "auto"  # views of each image whose features are kept; 0: none

    @property
    def keeps_backbone(self) -> bool:
        """Whether the backbone stays as it is throughout."""
        return self.freeze == "backbone" and self.unfreeze_after is None

    def find_problems(self) -> list[str]:
        problems = []
        if self.unfreeze_after is not None and not self.freeze:
            problems.append(f"unfreeze_after: {self.unfreeze_after} was given; expected null where model.freeze is []")
        if self.feature_views not in ("auto", 0) and not self.keeps_backbone:
            problems.append(
                f"feature_views: {self.feature_views} was given; features can be kept of a backbone that stays as it "
                "is: expected model.freeze=backbone and model.unfreeze_after=null, or feature_views auto or 0"
            )
        return problems


# The dataset tells what is supplied; a builder asks for what it needs.
MODELS = Registry("model", supplied=("num_classes", "in_channels", "image_size"), shared=ForEveryModel)
