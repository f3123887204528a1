"""A network on a set of images it does not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from cnnlab.distributed import add_up, copy_from_main, gather, is_main, num_processes, rank
from cnnlab.engine.network import Network
from cnnlab.engine.views import Views, average_outputs
from cnnlab.metrics import measure
from cnnlab.modes import keep_modes
from cnnlab.tasks import Classification, Labels, MultiLabel, Task, count_hits


class BatchSource(Protocol):
    """What the engine asks of the data: any batch of any epoch, at any time."""

    @property
    def num_examples(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def __len__(self) -> int: ...

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Labels]: ...


class Criterion(Protocol):
    """A loss as the engine calls it."""

    def __call__(self, outputs: Tensor, labels: Labels) -> Tensor:
        """The mean loss of a batch."""
        ...

    def weigh(self, labels: Labels) -> float | Tensor:
        """What that mean divides by: how much these images count among others."""
        ...

    def each(self, outputs: Tensor, labels: Labels) -> Tensor:
        """The loss of each image for itself (N,)."""
        ...


@dataclass(frozen=True)
class Predictions:
    """Of each image, in the order of the batches, the class that is predicted and its probability, on the CPU."""

    classes: Tensor  # int64 (N,)
    probabilities: Tensor  # float32 (N,)


@dataclass(frozen=True)
class Metrics:
    """Means over all images, by the names that the task has for them; and what was counted by class, or by label."""

    values: Mapping[str, float]
    confusion: Tensor | None = field(default=None, compare=False)  # int64 (classes, classes): a row each class
    predictions: Predictions | None = field(default=None, compare=False)  # where they were asked for
    # int64 (3, classes): how many images each was rightly and wrongly told of, and how many of it were missed.
    hits: Tensor | None = field(default=None, compare=False)

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def find_never_predicted(self) -> list[int]:
        """The classes, or labels, that there are images of and that none is told to have; of numbers none."""
        if self.hits is None:
            return []
        right, wrong, missed = self.hits
        return ((missed > 0) & (right + wrong == 0)).nonzero().flatten().tolist()


Totals = tuple[float, float, int, float]  # sums of losses, of scores, of images, and of what the losses count
NOTHING: Totals = (0.0, 0.0, 0, 0.0)


class Sums:
    """Loss and score summed on the device, read only when somebody asks: reading waits for it.

    Each process counts what it sees; `set` and `read` are about all of them together, and called by all.
    """

    def __init__(self, device: torch.device, task: Task):
        self._task = task
        self._loss = torch.zeros((), dtype=precise_type(device), device=device)
        self._score = torch.zeros((), dtype=precise_type(device), device=device)
        self._weight = torch.zeros((), dtype=precise_type(device), device=device)
        self.num_seen = 0

    def add(self, loss: Tensor, outputs: Tensor, labels: Labels, weight: float | Tensor) -> None:
        """Count a batch in: its mean loss, its outputs, its labels, and how much the loss counts among others."""
        self._loss.add_(loss.detach().to(self._loss.dtype) * weight)
        self._score.add_(self._task.add_up_score(outputs.detach(), labels))
        self._weight.add_(weight)
        self.num_seen += len(labels)

    def read(self) -> Totals:
        loss, score, num_seen, weight = add_up(
            self._loss.item(), self._score.item(), self.num_seen, self._weight.item()
        )
        return loss, score, int(num_seen), weight

    def set(self, totals: Totals) -> None:
        loss, score, num_seen, weight = totals if is_main() else NOTHING
        self._loss.fill_(loss)
        self._score.fill_(score)
        self._weight.fill_(weight)
        self.num_seen = num_seen

    def means(self, until: Totals | None = None, since: Totals = NOTHING) -> dict[str, float]:
        """The mean loss and the mean score, by their names; of what came between two of what `read` returned.

        The mean loss is the same however images are divided into batches, also where classes have weights.
        """
        loss, score, num_seen, weight = (now - before for now, before in zip(until or self.read(), since, strict=True))
        return {"loss": loss / weight, self._task.score: score / num_seen}


class ClassCounts:
    """Which class is taken for which, and the log loss, counted on the device as `Sums` does."""

    def __init__(self, device: torch.device, task: Classification, num_outputs: int):
        self._task = task
        num_classes = max(2, num_outputs)
        self._log_loss = torch.zeros((), dtype=precise_type(device), device=device)
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.long, device=device)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        self._log_loss.add_(self._task.add_up_log_loss(outputs, labels))
        self._confusion.add_(self._task.count_confusion(outputs, labels))

    def read(self) -> tuple[float, Tensor]:
        return self._log_loss.item(), self._confusion.cpu()


class LabelCounts:
    """How often each label was told rightly and wrongly, counted on the device as `Sums` does."""

    def __init__(self, device: torch.device, task: MultiLabel, num_outputs: int):
        self._task = task
        self._hits = torch.zeros(3, num_outputs, dtype=torch.long, device=device)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        self._hits.add_(self._task.count_hits(outputs > 0, labels))

    def read(self) -> Tensor:
        return self._hits.cpu()


def add_label_counts(means: dict[str, float], task: MultiLabel, counts: LabelCounts | None) -> Metrics:
    """With what is counted by label, of all processes together; one that has had no batch has no `counts`."""
    counted = [read for read in gather(counts.read() if counts else None) if read is not None]
    hits = torch.stack(counted).sum(0)
    return Metrics({**means, **task.measure_f1(hits)}, hits=hits)


def add_class_counts(means: dict[str, float], counts: ClassCounts | None) -> Metrics:
    """With what is counted by class, of all processes together; one that has had no batch has no `counts`."""
    counted = [read for read in gather(counts.read() if counts else None) if read is not None]
    if not counted:
        return Metrics(means)
    confusion = torch.stack([each for _, each in counted]).sum(0)
    log_loss = sum(each for each, _ in counted) / int(confusion.sum())
    return Metrics({**means, "log_loss": log_loss}, confusion, hits=count_hits(confusion))


def precise_type(device: torch.device) -> torch.dtype:
    """The floating-point type with most digits that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def evaluate(
    network: Network,
    criterion: Criterion,
    batches: BatchSource,
    extra: Sequence[str] = (),
    *,
    views: Views = "none",
    keep_predictions: bool = False,
) -> Metrics:
    """Mean loss and the task's metrics over all of `batches`, in evaluation mode; every layer's mode is put back.

    Outputs are the means over the `views` of each image. `extra` are the metrics of `metrics.py` that are wanted
    beside. Where labels are classes the prediction for each image can be kept.

    Of many processes each takes some of the batches, with the main one's statistics of batch normalisation.
    """
    model, task = network.model, network.task
    copy_from_main(model.buffers())
    sums = Sums(network.device, task)
    extra = [name for name in extra if name not in task.metrics]
    counts: ClassCounts | None = None
    label_counts: LabelCounts | None = None
    # Of each batch, by its number, on the device: probabilities and labels; and classes and their probabilities.
    scored: dict[int, tuple[Tensor, ...]] = {}
    kept: dict[int, tuple[Tensor, ...]] = {}
    with keep_modes(model), torch.inference_mode():
        model.eval()
        for number in range(rank(), len(batches), num_processes()):
            images, labels = batches.batch(0, number)
            outputs = average_outputs(network, images, views)
            sums.add(criterion(outputs, labels), outputs, labels, criterion.weigh(labels))
            if isinstance(task, Classification):
                assert isinstance(labels, Tensor), "nothing is mixed in an evaluation"
                counts = counts or ClassCounts(network.device, task, outputs.shape[1])
                counts.add(outputs, labels)
                if extra:
                    scored[number] = task.to_scores(outputs.to(precise_type(network.device))), labels
                if keep_predictions:
                    probabilities = task.to_scores(outputs.float())
                    kept[number] = task.predict(outputs), probabilities.amax(1)
            if isinstance(task, MultiLabel):
                assert isinstance(labels, Tensor), "nothing is mixed in an evaluation"
                label_counts = label_counts or LabelCounts(network.device, task, outputs.shape[1])
                label_counts.add(outputs, labels)
    if isinstance(task, MultiLabel):
        return add_label_counts(sums.means(), task, label_counts)
    metrics = add_class_counts(sums.means(), counts)
    if extra:
        scores, known = (column.numpy() for column in join_batches(scored))
        metrics = replace(metrics, values={**metrics.values, **measure(extra, scores, known)})
    if keep_predictions and isinstance(task, Classification):
        metrics = replace(metrics, predictions=Predictions(*join_batches(kept)))
    return metrics


def join_batches(kept: Mapping[int, tuple[Tensor, ...]]) -> list[Tensor]:
    """Column by column what was kept of the batches of all processes, in their order, on the CPU."""
    on_cpu = {number: tuple(each.cpu() for each in batch) for number, batch in kept.items()}
    batches = {number: batch for some in gather(on_cpu) for number, batch in some.items()}
    return [torch.cat(column) for column in zip(*(batches[number] for number in sorted(batches)), strict=True)]
