"""From `optimizer.*` and a network to an optimizer: which parameters share a rate and a decay.

The keys that concern every optimizer are worked in here, so that no builder knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import nn
from torch.optim import Optimizer

from cnnlab.errors import ConfigError
from cnnlab.optim.registry import ForEveryOptimizer, Groups
from cnnlab.prefixes import require_prefixes, starts
from cnnlab.registry import Component

# Among the names of `rates`: the network's last layer, whatever it is called; and all parameters of one dimension.
HEAD, NORMS_AND_BIASES = "head", "norms_and_biases"


def build_optimizer(
    chosen: Component[ForEveryOptimizer],
    model: nn.Module,
    batch_size: int,
    late: Collection[nn.Parameter] = (),
    find_head: Callable[[nn.Module], str] | None = None,
) -> Optimizer:
    """The optimizer that is chosen, over the parameters of `model` that train.

    Those that begin `late`, when others have a history already, are in groups of their own. `find_head` tells the
    name of the layer that `rates` may call "head".

    Raises ConfigError for a key of `rates` that no parameter's name starts with, and for what torch
    itself finds wrong with arguments beside each other.
    """
    shared = chosen.shared
    rates = dict(shared.factors)
    if HEAD in rates and find_head is not None:
        rates[find_head(model)] = rates.pop(HEAD)
    groups = group_parameters(model, rates, shared.decay_norms_and_biases, late)
    try:
        optimizer: Optimizer = chosen.build(params=groups, model=model)
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("factor", 1.0) * (batch_size / (shared.scale_to_batch or batch_size))
    return optimizer


def group_parameters(
    model: nn.Module, rates: Mapping[str, float], decay_norms_and_biases: bool, late: Collection[nn.Parameter] = ()
) -> Groups:
    """The trainable parameters by rate and decay, those at the plain rate first; a group that is
    multiplied has the factor in its key `factor`. torch's fused kernels want parameters of a group to begin
    together, so those that begin `late` are apart.

    Of several names in `rates` that a parameter's name starts with, the longest counts; the factor of norms and biases
    comes on top. These are the parameters of one dimension.
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    prefixes = [prefix for prefix in rates if prefix != NORMS_AND_BIASES]
    require_prefixes("optimizer.rates", prefixes, names)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    begin_late = set(late)
    for name, p in model.named_parameters():
        if p.requires_grad:
            fitting = [prefix for prefix in prefixes if starts(name, prefix)]
            factor = rates[max(fitting, key=len)] if fitting else 1.0
            factor *= rates.get(NORMS_AND_BIASES, 1.0) if p.dim() <= 1 else 1.0
            decays = decay_norms_and_biases or p.dim() > 1
            groups.setdefault((factor, decays, p in begin_late), []).append(p)
    return [
        {"params": params} | ({} if factor == 1 else {"factor": factor}) | ({} if decays else {"weight_decay": 0.0})
        for (factor, decays, _), params in sorted(groups.items(), key=lambda item: item[0][0] != 1)
    ]
