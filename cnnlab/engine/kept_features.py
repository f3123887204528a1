"""Batches of features in the place of images: a backbone that stays as it is need not see an image twice.

Of each image `num_views` views are kept, as vectors of float32 in memory. View v is the image as epoch v shows
it, augmented as there; epoch e learns from view e mod `num_views`, in its own order. So with as many views as epochs
everything is as it would be without keeping, and with fewer the later epochs see augmented images again.

Features are computed when they are first needed, for the batch that the image has in epoch v: the first epochs take
the time of the backbone, the others hardly any. A run that is resumed computes them again, and gets the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from cnnlab.engine.evaluate import BatchSource


class IndexedSource(BatchSource, Protocol):
    """Batches that tell which of their images they consist of."""

    def members(self, epoch: int, number: int) -> Tensor:
        """Which images a batch consists of, from 0 to `num_examples` - 1."""
        ...

    def each_once(self) -> IndexedSource:
        """The same images under the same augmentations, each once in an epoch."""
        ...


class KeptFeatures:
    """A source of batches whose images are already features (N, F)."""

    def __init__(self, source: IndexedSource, extract: Callable[[Tensor], Tensor], num_views: int = 1):
        self.num_examples = source.num_examples
        self.batch_size = source.batch_size
        self._source = source
        self._views = [View(source.each_once(), extract, epoch) for epoch in range(num_views)]

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Features float32 (N, F) and their labels."""
        members = self._source.members(epoch, number)
        return self._views[epoch % len(self._views)].take(members)


class View:
    """Features and labels of all images as one epoch shows them, filled as they are asked for."""

    def __init__(self, source: IndexedSource, extract: Callable[[Tensor], Tensor], epoch: int):
        self.source = source
        self._extract = extract
        self._epoch = epoch
        self._missing = set(range(len(source)))  # numbers of batches without features yet
        self._number: Tensor | None = None  # of the batch that each image is in
        self._features = self._labels = torch.empty(0)

    def take(self, members: Tensor) -> tuple[Tensor, Tensor]:
        if self._missing:
            self._fill(members)
        return self._features.index_select(0, members), self._labels.index_select(0, members)

    def _fill(self, members: Tensor) -> None:
        """Compute the features of the batches of this view's epoch in which these images are, unless they are there."""
        if self._number is None:
            self._number = torch.empty(self.source.num_examples, dtype=torch.long, device=members.device)
            for number in self._missing:
                self._number[self.source.members(self._epoch, number)] = number
        wanted = self._number[members].unique().tolist() or [0]  # where no image is wanted, to know a feature's size
        for number in self._missing.intersection(wanted):
            # Also inside an evaluation: what is kept has to serve training.
            with torch.inference_mode(False), torch.no_grad():
                images, labels = self.source.batch(self._epoch, number)
                assert isinstance(labels, Tensor), "nothing is mixed"
                self._keep(self.source.members(self._epoch, number), self._extract(images), labels)
            self._missing.remove(number)

    def _keep(self, members: Tensor, features: Tensor, labels: Tensor) -> None:
        if len(self._features) == 0:
            self._features = features.new_empty(self.source.num_examples, *features.shape[1:])
            self._labels = labels.new_empty(self.source.num_examples, *labels.shape[1:])
        self._features[members] = features
        self._labels[members] = labels
