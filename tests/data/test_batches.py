from __future__ import annotations

from functools import partial

import pytest
import torch

from cnnlab.data.augment import cutout, flip, pad_crop
from cnnlab.data.batches import Batches, pixel_statistics
from cnnlab.data.registry import ImageSet

NUM = 53
IMAGES = ImageSet(
    torch.randint(0, 256, (NUM, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(NUM),  # the label names the image
)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
AUGMENTATIONS = {"pad_crop": partial(pad_crop, padding=1), "flip": flip, "cutout": partial(cutout, size=2)}


def make(seed: int | None = 7, batch_size: int = 10, augmentations=AUGMENTATIONS) -> Batches:
    return Batches(IMAGES, torch.arange(NUM), batch_size, MEAN, STD, seed=seed, augmentations=augmentations)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    batches = make()
    assert len(batches) == 6
    orders = [torch.cat([batches.batch(epoch, n)[1] for n in range(6)]) for epoch in (0, 1)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(NUM))
    assert not torch.equal(*orders)


def test_a_batch_depends_on_nothing_asked_before():
    used, fresh = make(), make()
    for epoch, number in ((0, 0), (0, 1), (3, 2), (1, 5), (0, 1)):
        used.batch(epoch, number)
    for wanted in ((1, 4), (0, 1), (2, 5)):
        for got, expected in zip(used.batch(*wanted), make().batch(*wanted), strict=True):
            assert torch.equal(got, expected)
    assert torch.equal(fresh.batch(0, 5)[0], make().batch(0, 5)[0])


def test_position_decides_not_the_batch_it_comes_in():
    """So that N processes, each with a part of every batch, see what one process sees."""
    whole = torch.cat([make(batch_size=10).batch(2, n)[0] for n in range(6)])
    parts = torch.cat([make(batch_size=4).batch(2, n)[0] for n in range(14)])
    assert torch.equal(whole, parts)


def test_adding_an_augmentation_moves_no_other():
    """`flip` draws the same coins with and without `cutout` in front of it."""
    with_cutout = make(augmentations={"cutout": partial(cutout, size=2), "flip": flip})
    alone = make(augmentations={"flip": flip})
    plain = make(augmentations={})
    for batch in range(6):
        left, right = plain.batch(0, batch)[0], alone.batch(0, batch)[0]
        mirrored = (left == right).flatten(1).all(1).logical_not()
        cut = with_cutout.batch(0, batch)[0]
        reference = torch.where(mirrored.view(-1, 1, 1, 1), left.flip(3), left)
        same = (cut == reference) | (cut == ((0 - torch.tensor(MEAN)) / torch.tensor(STD)).view(1, 3, 1, 1))
        assert same.float().mean() > 0.99


def test_normalisation_equals_torchvisions():
    from torchvision.transforms import v2

    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    images, _ = make(seed=None, augmentations={}).batch(0, 2)
    torch.testing.assert_close(images, reference(IMAGES.images[20:30].permute(0, 3, 1, 2)))


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format(channels_last):
    batches = Batches(IMAGES, torch.arange(NUM), 10, MEAN, STD, channels_last=channels_last)
    images, _ = batches.batch(0, 0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=layout)


def test_in_order_is_the_same_images_as_they_are():
    images, labels = make().in_order().batch(4, 0)
    assert labels.tolist() == list(range(10))
    assert torch.equal(images, make(seed=None, augmentations={}).batch(0, 0)[0])


def test_the_images_are_held_once():
    assert make().images.images.data_ptr() == IMAGES.images.data_ptr()


def test_statistics_are_those_of_the_pixels_in_float64():
    chosen = torch.arange(5, 40)
    mean, std = pixel_statistics(IMAGES, chosen)
    pixels = IMAGES.images[chosen].double().div(255).flatten(0, 2)
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), pixels.mean(0))
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), pixels.std(0, correction=0))
