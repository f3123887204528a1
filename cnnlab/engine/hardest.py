"""Which images of a batch a step learns from, where that is not all of them: those of the largest loss.

Late in training most images have been learned, and a step over them moves little. One more forward pass over the
batch, in evaluation mode, finds the loss of each; the step is over the share of them whose losses are largest
(selective backpropagation: Jiang et al., arXiv:1910.00762). Which they are follows from the weights and the batch, so
that a run resumes exactly; they are those of the whole batch, into however many processes or micro-batches it is cut.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnnlab.distributed import gather, num_processes, rank
from cnnlab.engine.state import State
from cnnlab.engine.step import Training
from cnnlab.modes import keep_modes
from cnnlab.tasks import Labels

Looked = tuple[Tensor, Tensor]  # the mean loss over all images, each counting once, and their outputs


def choose_images(
    training: Training, images: Tensor, labels: Labels, state: State
) -> tuple[tuple[Tensor, Labels], Looked | None]:
    """What a step learns from; and, where that is not the batch as it is, what the network made of all of it before.

    Of many processes each is given a share of the batch, and returns what it has of the hardest of the whole: maybe
    nothing.
    """
    if training.learn_hardest is None:
        return (images, labels), None
    # No more at once than the step itself takes, which needs more memory for each.
    size = state.micro_batch_size or count_hardest(training.learn_hardest, len(labels))
    outputs, losses = look(training, images, labels, size)
    chosen = find_hardest(losses, training.learn_hardest)
    mean = losses.sum() / max(len(labels), 1)
    training.times.end("forward")
    return (images[chosen], labels[chosen]), (mean, outputs)


def look(training: Training, images: Tensor, labels: Labels, size: int) -> tuple[Tensor, Tensor]:
    """Outputs, and the loss of each image (N,), by the network as it is evaluated, `size` images at a time."""
    model = training.model
    with keep_modes(model), torch.no_grad():
        model.eval()
        starts = range(0, max(len(labels), 1), max(size, 1))
        # Copies: a recorded graph overwrites what it gave before.
        outputs = torch.cat([training.network(images[start : start + size]).clone() for start in starts])
        return outputs, training.criterion.each(outputs, labels)


def count_hardest(share: float, num_images: int) -> int:
    """At least two, if there are two: batch normalisation may need more than one."""
    return max(math.ceil(share * num_images), min(2, num_images))


def find_hardest(losses: Tensor, share: float) -> Tensor:
    """Of the images whose losses these are (N,), those that are among the hardest `share` of all processes' images.

    Int64, in the order of the batch; of equals the earlier ones.
    """
    if num_processes() == 1:
        return rank_losses(losses)[: count_hardest(share, len(losses))].sort().values
    everyone = gather(losses.cpu())
    start = sum(map(len, everyone[: rank()]))
    together = torch.cat(everyone)
    hardest = rank_losses(together)[: count_hardest(share, len(together))]
    own = hardest[(hardest >= start) & (hardest < start + len(losses))] - start
    return own.sort().values.to(losses.device)


def rank_losses(losses: Tensor) -> Tensor:
    """The images from the hardest to the easiest; one whose loss is no number comes first, so that the step tells."""
    return losses.argsort(descending=True, stable=True)
