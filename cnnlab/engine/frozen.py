"""Parts of a network that do not learn, not yet or no more: a function of the step, so that a resumed run agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Frozen:
    """From step `since` on and before step `until` these parameters get no gradients, these modules evaluate.

    Batch normalisation stays in evaluation mode after it: the statistics that the weights were trained with are better
    than those of a few batches, which would change what every layer above sees at once.
    """

    parameters: Sequence[nn.Parameter]
    modules: Sequence[nn.Module]
    since: int = 0
    until: float = math.inf

    def warm_up(self, step: int, parameter: nn.Parameter) -> float:
        """What the rate of a parameter is multiplied by: once it learns it rises for as long as it was frozen."""
        thaws = self.until < math.inf and any(parameter is frozen for frozen in self.parameters)
        if not thaws or step >= 2 * self.until:
            return 1.0
        return max(0.0, (step + 1 - self.until) / self.until)

    def hold(self, step: int) -> None:
        """Make it so for `step`. At every step anew: an evaluation in between puts the whole network in one mode."""
        learns = not self.since <= step < self.until
        for parameter in self.parameters:
            parameter.requires_grad_(learns)
        for module in self.modules:
            module.training = learns and (step < self.since or not isinstance(module, _BatchNorm))
