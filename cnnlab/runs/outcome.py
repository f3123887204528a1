"""Whether a run has learned anything, and what may be why it has not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from cnnlab.config import Config
from cnnlab.engine.evaluate import Metrics
from cnnlab.engine.state import Row
from cnnlab.errors import format_list
from cnnlab.tasks import Task

FAIR = ("valid_macro_f1", "valid_balanced_accuracy")  # columns in which a rare class counts as much as another
STANDARD_ERRORS = 2  # an accuracy within them of the baseline may be luck


def warn_of_random_features(config: Config) -> str | None:
    """What to say of frozen weights that nothing has trained; None where there are none."""
    shared = config.model.shared
    if not shared.freeze or shared.weights is not None or shared.init_from_data is not None:
        return None
    return (
        f"warning: model.freeze: {shared.freeze} was given without model.weights: what is frozen keeps random weights, "
        "and the rest learns from features that mean nothing; expected model.weights=DEFAULT, a file or a run"
    )


def explain_outcome(config: Config, model: nn.Module, part: str, metrics: Metrics | None, last: Row) -> str | None:
    """What to say of an accuracy that always naming the largest class would have; None for a better one.

    `metrics` are those of `part`, `last` is the last epoch's row. Regression has no classes to name.
    """
    if metrics is None or metrics.confusion is None:
        return None
    counts, predicted = metrics.confusion.sum(1), metrics.confusion.sum(0)
    total = int(counts.sum())
    baseline = counts.max().item() / total
    bound = baseline + STANDARD_ERRORS * math.sqrt(baseline * (1 - baseline) / total)
    if metrics["accuracy"] > bound:
        return None
    constant = "; one class is predicted for all of them" if predicted.max() == total else ""
    headline = (
        f"warning: the accuracy over {total:,} {part} images, {metrics['accuracy']:.4f}, is not clearly better "
        f"than always naming the largest class, {baseline:.4f}{constant}. Likely causes:"
    )
    causes = list_causes(config, model) if last["train_accuracy"] <= bound else list_differences(part, last)
    return "\n  - ".join([headline, *causes])


def explain_never_predicted(config: Config, task: Task, found: Mapping[str, Sequence[str]]) -> str | None:
    """What to say of classes, or labels, that a network never predicts, by the part they were looked for in.

    None where there are none.
    """
    parts: dict[tuple[str, ...], list[str]] = {}  # those of the same classes together
    for part, names in found.items():
        if names:
            parts.setdefault(tuple(names), []).append(part)
    if not parts:
        return None
    where = [format_list(f"on the {' and '.join(same)} images", names) for names, same in parts.items()]
    what = "classes" if task.has_classes else "labels"
    helps = ", ".join(list_help_for_the_rare(config, task))
    return f"{what} never predicted {', '.join(where)}" + (
        f"; to count them as much as others: {helps}" if helps else ""
    )


def list_help_for_the_rare(config: Config, task: Task) -> Iterator[str]:
    """What would make rare classes count more, of that which the configuration does not have yet."""
    if task.has_classes and config.engine.select_by not in FAIR:
        yield f"engine.select_by={FAIR[0]}"
    for key in ("class_weights", "pos_weight"):
        if key in config.loss.arguments and config.loss.arguments[key] != "auto":
            yield f"loss.{key}=auto"
    if task.has_classes and config.sampling != "balanced":
        yield "sampling=balanced"
    if not task.has_classes:
        yield "cnnlab predict --threshold fit"


def list_causes(config: Config, model: nn.Module) -> Iterator[str]:
    """Why not even the training images are learned, the likeliest cause first, each with what to do."""
    if warn_of_random_features(config):
        yield "frozen random weights: leave out model.freeze, or give model.weights"
    rate = config.optimizer.arguments.get("lr")
    given = f" (optimizer.lr={rate:g})" if rate else ""
    yield f"the learning rate{given}, or too few steps with it: cnnlab find-lr suggests one; make epochs larger"
    if any(isinstance(module, (nn.Sigmoid, nn.Tanh)) for module in model.modules()):
        yield (
            "saturated activations: far from 0 a sigmoid hardly has a slope; model.init=xavier and many steps at a "
            "high rate help, or a network with ReLU"
        )
    else:
        yield "dead activations, 0 for every image: a smaller optimizer.lr, model.init=kaiming"
    yield (
        "labels that do not belong to their images: engine.overfit=2 shows whether two batches can be learned by "
        "heart, cnnlab prepare checks files and tables"
    )


def list_differences(part: str, last: Row) -> Iterator[str]:
    """Why what was learned of the training images is of no use for others."""
    yield (
        f"the training images were learned (accuracy {last['train_accuracy']:.4f}), perhaps by heart: more of them, an "
        "augmentation, a smaller network, fewer epochs"
    )
    yield f"labels or images of the {part} part that are unlike those of training: cnnlab prepare compares them"
