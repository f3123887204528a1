"""Which features a batch is given, and how often images are looked at."""

from __future__ import annotations

import pytest
import torch

from cnnlab.data.augment import flip
from cnnlab.data.batches import Augment, Batches
from cnnlab.data.dataset import ImageSet
from cnnlab.engine.kept_features import KeptFeatures

NUM = 53
PIXELS = torch.randint(0, 256, (NUM, 4, 4, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = ImageSet.of(PIXELS, torch.arange(NUM) % 5)
CHOSEN = torch.arange(3, NUM)  # 50 images


def source(**arguments) -> Batches:
    return Batches(IMAGES, CHOSEN, 8, **{"seed": 7, "augment": Augment(augmentations={"flip": flip}), **arguments})


class Backbone:
    """A backbone that counts the images it is shown: 16 pixels → 16 features."""

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.num += len(images)
        return images.flatten(1)


def test_with_as_many_views_as_epochs_nothing_changes():
    kept, images = KeptFeatures(source(), Backbone(), num_views=3), source()
    for epoch in range(3):
        for number in range(len(images)):
            features, labels = kept.batch(epoch, number)
            expected, expected_labels = images.batch(epoch, number)
            assert torch.equal(features, expected.flatten(1)) and torch.equal(labels, expected_labels)


@pytest.mark.parametrize("num_views", [1, 2])
def test_later_epochs_see_earlier_views_in_their_own_order(num_views):
    backbone = Backbone()
    kept, images = KeptFeatures(source(), backbone, num_views), source()
    views = []
    for epoch in range(num_views):
        view = torch.empty(50, 16)
        for number in range(len(images)):
            members = images.members(epoch, number)
            view[members] = images.batch(epoch, number)[0].flatten(1)
        views.append(view)
    for epoch in range(5):
        for number in range(len(images)):
            features, labels = kept.batch(epoch, number)
            members = images.members(epoch, number)
            assert torch.equal(features, views[epoch % num_views][members])
            assert torch.equal(labels, IMAGES.labels[CHOSEN][members])
    assert backbone.num == 50 * num_views


def test_features_are_computed_when_they_are_needed():
    backbone = Backbone()
    kept = KeptFeatures(source(), backbone)
    kept.batch(0, 3)
    assert backbone.num == 8
    kept.batch(0, 3)
    assert backbone.num == 8


def test_resumed_anywhere_it_gives_the_same():
    """Asked for a batch of a late epoch first, as a run does that goes on there."""
    whole = KeptFeatures(source(), Backbone(), 2)
    for epoch, number in [(epoch, number) for epoch in range(4) for number in range(len(whole))]:
        features, labels = whole.batch(epoch, number)
        if (epoch, number) in ((0, 4), (1, 2), (3, 5)):
            fresh = KeptFeatures(source(), Backbone(), 2).batch(epoch, number)
            assert torch.equal(fresh[0], features) and torch.equal(fresh[1], labels)


def test_balanced_draws_take_the_same_views():
    backbone = Backbone()
    kept, drawn, once = KeptFeatures(source(sampling="balanced"), backbone), source(sampling="balanced"), source()
    view = torch.empty(50, 16)
    for number in range(len(once)):
        view[once.members(0, number)] = once.batch(0, number)[0].flatten(1)
    for epoch in range(3):
        for number in range(len(kept)):
            assert torch.equal(kept.batch(epoch, number)[0], view[drawn.members(epoch, number)])
    assert backbone.num == 50


def test_what_an_evaluation_looked_at_serves_training():
    kept = KeptFeatures(source(), Backbone())
    with torch.inference_mode():
        kept.batch(0, 0)
    features, _ = kept.batch(0, 0)
    weights = torch.ones(16, requires_grad=True)
    (features * weights).sum().backward()  # inference tensors would be refused here
    assert torch.equal(weights.grad, features.sum(0))
