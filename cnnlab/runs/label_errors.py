"""Labels that look wrong, by confident learning.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021, arXiv:1911.00068. The
probabilities must come from a network that has not trained on these images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelErrors:
    """Of images with labels, which look wrong."""

    ranking: Tensor  # int64 (N,): positions, the likeliest error first
    suggested: Tensor  # int64 (N,): the class that each seems to be of
    is_suspect: Tensor  # bool (N,): whether that is confidently another one than the label

    @property
    def num_suspects(self) -> int:
        return int(self.is_suspect.sum())


def find_label_errors(probabilities: Tensor, labels: Tensor) -> LabelErrors:
    """Of probabilities float64 (N, classes), and labels int64 (N,).

    A class is confident of an image whose probability for it is at least the mean over the images with its label: its
    threshold (equation 2). An image is counted for the likeliest confident class (equation 1); it is a suspect where
    that is not its label. The ranking is by the probability of the label ("self-confidence"), which on changed labels
    of CIFAR-10 finds more of them first than the margin to the likeliest other class, or suspects before all others.
    """
    thresholds = measure_thresholds(probabilities, labels)
    confident = torch.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    counted, suggested = confident.max(1)
    is_suspect = (counted >= 0) & (suggested != labels)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    others = probabilities.scatter(1, labels[:, None], -1.0)
    suggested = torch.where(is_suspect, suggested, others.argmax(1))
    return LabelErrors(own.argsort(stable=True), suggested, is_suspect)


def measure_thresholds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The mean probability of each class over the images with its label; of a class without images none reaches it."""
    own = probabilities.gather(1, labels[:, None])[:, 0]
    sums = torch.zeros(probabilities.shape[1], dtype=probabilities.dtype).index_add_(0, labels, own)
    counts = labels.bincount(minlength=probabilities.shape[1])
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.inf)
