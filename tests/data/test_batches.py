from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cnnlab.data.augment import alternating_flip, cutout, flip, pad_crop
from cnnlab.data.batches import Augment, Batches
from cnnlab.data.crops import random_resized_crop
from cnnlab.data.dataset import ImageSet
from cnnlab.data.mix import mixup
from cnnlab.data.normalise import Normalise, measure_pixels
from cnnlab.data.order import Share
from cnnlab.data.store import Packed
from cnnlab.engine.compute import FORMATS, PLAIN

NUM = 53
IMAGES = ImageSet.of(
    torch.randint(0, 256, (NUM, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(NUM),  # the label names the image
)
SIDES = torch.randint(12, 20, (NUM, 2), generator=torch.Generator().manual_seed(1))
NUM_BYTES = 3 * SIDES.prod(1)
PACKED = ImageSet(
    Packed(  # as `Pack.pictures` gives them
        [np.random.default_rng(0).integers(0, 256, int(NUM_BYTES.sum()), dtype=np.uint8)],
        torch.stack([NUM_BYTES.cumsum(0) - NUM_BYTES, *SIDES.unbind(1), torch.zeros(NUM).long()], 1).numpy(),
        np.arange(NUM),
        channels=3,
        image_size=8,
    ),
    torch.arange(NUM),
)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NORMALISE = Normalise(MEAN, STD)
AUGMENTATIONS = {"pad_crop": partial(pad_crop, padding=1), "flip": flip, "cutout": partial(cutout, size=2)}


def make(seed: int | None = 7, batch_size: int = 10, augmentations=AUGMENTATIONS, images=IMAGES, crop=None) -> Batches:
    indices = torch.arange(NUM)
    return Batches(images, indices, batch_size, NORMALISE, seed=seed, augment=Augment(crop, augmentations))


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
    torch.testing.assert_close(images, reference(IMAGES.store.tensor[20:30].permute(0, 3, 1, 2)))


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_memory_format(memory_format):
    """As they lie, so that a network that computes in that format copies none."""
    images, _ = Batches(IMAGES, torch.arange(NUM), 10, NORMALISE).batch(0, 0)
    assert images.is_contiguous(memory_format=torch.channels_last)
    arranged = replace(PLAIN, memory_format=memory_format).arrange(images)
    assert arranged.is_contiguous(memory_format=FORMATS[memory_format]) and torch.equal(arranged, images)
    assert (arranged is images) == (memory_format == "channels_last")


def test_in_order_is_the_same_images_as_they_are():
    images, labels = make().in_order().batch(4, 0)
    assert labels.tolist() == list(range(10))
    assert torch.equal(images, make(seed=None, augmentations={}).batch(0, 0)[0])


def test_the_images_are_held_once():
    assert make().divided(1, 2).in_order().images.store.tensor.data_ptr() == IMAGES.store.tensor.data_ptr()


# --- Crops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [IMAGES, PACKED])
def test_cropped_batches_depend_on_the_position_alone(images):
    def make_cropped(batch_size: int) -> Batches:
        return make(batch_size=batch_size, images=images, crop=random_resized_crop)

    used = make_cropped(10)
    whole = [used.batch(2, n) for n in range(6)]
    parts = [make_cropped(4).batch(2, n) for n in range(14)]
    for left, right in zip(zip(*whole, strict=True), zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(left), torch.cat(right))
    assert not torch.equal(used.batch(2, 0)[0], used.batch(3, 0)[0])
    assert torch.equal(used.batch(2, 0)[0], whole[0][0])
    assert whole[0][0].shape == (10, 3, 8, 8) and whole[0][0].is_contiguous(memory_format=torch.channels_last)


def test_threads_change_nothing():
    """In an evaluation's inference mode too, where one thread's tensors are not for another to write to."""
    cropped = [make(images=PACKED, crop=random_resized_crop).batch(1, n)[0] for n in range(6)]
    centres = [make(images=PACKED).in_order().batch(0, n)[0] for n in range(6)]
    torch.set_num_threads(4)
    try:
        for number in range(6):
            assert torch.equal(make(images=PACKED, crop=random_resized_crop).batch(1, number)[0], cropped[number])
            with torch.inference_mode():
                assert torch.equal(make(images=PACKED).in_order().batch(0, number)[0], centres[number])
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)


def test_a_crop_moves_no_augmentation():
    """`flip` draws the same coins with a crop that takes the whole image as without."""
    whole = partial(random_resized_crop, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.equal(make(crop=whole).batch(0, 0)[0], make().batch(0, 0)[0])


def test_an_evaluation_looks_at_the_centres_of_packed_images():
    images, labels = make(images=PACKED, crop=random_resized_crop).in_order().batch(0, 1)
    pixels = images.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)
    for label, square in zip(labels.tolist(), pixels, strict=True):
        top, left = (round((side - 8) / 2) for side in SIDES[label].tolist())
        expected = torch.from_numpy(PACKED.store[label][top : top + 8, left : left + 8]).float() / 255
        torch.testing.assert_close(square, expected)


@pytest.mark.gpu
def test_batches_made_ahead_are_those_asked_for():
    on_device = make(images=PACKED.to(torch.device("cuda")), crop=random_resized_crop)
    on_cpu = make(images=PACKED, crop=random_resized_crop)
    for epoch, number in ((0, 0), (0, 1), (0, 4), (0, 5), (1, 0), (0, 1), (1, 1)):
        images, labels = on_device.batch(epoch, number)
        expected, expected_labels = on_cpu.batch(epoch, number)
        torch.testing.assert_close(images.cpu(), expected)
        assert torch.equal(labels.cpu(), expected_labels)


# --- Statistics ---------------------------------------------------------------------------------------


def test_statistics_of_packed_images_count_every_pixel_once():
    chosen = torch.arange(5, 40)
    mean, std = measure_pixels(PACKED, chosen)
    pixels = torch.cat([torch.from_numpy(PACKED.store[index]).flatten(0, 1) for index in chosen.tolist()]) / 255.0
    torch.testing.assert_close(torch.tensor(mean), pixels.mean(0))
    torch.testing.assert_close(torch.tensor(std), pixels.std(0, correction=0))


def test_statistics_are_those_of_the_pixels_in_float64():
    chosen = torch.arange(5, 40)
    mean, std = measure_pixels(IMAGES, chosen)
    pixels = IMAGES.store.tensor[chosen].double().div(255).flatten(0, 2)
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), pixels.mean(0))
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), pixels.std(0, correction=0))


# --- Balanced -----------------------------------------------------------------------------------------------

UNEQUAL = torch.tensor([0] * 800 + [1] * 150 + [2] * 50)


def balanced(batch_size: int = 64) -> Batches:
    images = ImageSet.of(torch.arange(1000).view(-1, 1, 1, 1), UNEQUAL)
    return Batches(images, torch.arange(1000), batch_size, seed=3, sampling="balanced")


def test_classes_are_equally_likely_and_so_are_the_images_of_each():
    batches = balanced()
    assert len(batches) == 16
    members = torch.stack([torch.cat([batches.members(epoch, n) for n in range(16)]) for epoch in range(30)])
    assert members.shape == (30, 1000)
    shares = torch.bincount(UNEQUAL[members.flatten()]) / 30_000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.015, rtol=0)  # five standard deviations
    drawn = torch.bincount(members.flatten(), minlength=1000)
    assert int(drawn.min()) > 0  # 12 times on average for an image of the largest class
    assert drawn[950:].float().mean() / drawn[:800].float().mean() == pytest.approx(16, rel=0.05)


def test_balanced_draws_depend_on_epoch_and_position_alone():
    used, whole = balanced(), balanced(batch_size=1000)
    used.batch(4, 3)
    for epoch in (2, 0):
        pixels = torch.cat([used.batch(epoch, number)[0] for number in range(16)])
        assert torch.equal(pixels, whole.batch(epoch, 0)[0])
    assert not torch.equal(whole.batch(0, 0)[0], whole.batch(1, 0)[0])


def test_an_evaluation_looks_at_each_image_once_whatever_the_sampling():
    assert torch.equal(balanced().in_order().batch(0, 1)[0].flatten(), torch.arange(64, 128).float())
    once = balanced().each_once()
    assert torch.equal(torch.cat([once.members(5, n) for n in range(16)]).sort().values, torch.arange(1000))


# --- Shared among processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("num_processes", [1, 2, 3, 5])
def test_shares_side_by_side_are_the_batch(num_processes, mixed):
    """Also of the last batch, whose 3 images are fewer than 5 processes; mixed, images may need those of others."""
    batches = make()
    if mixed:
        batches = replace(batches, augment=replace(batches.augment, mixes={"mixup": partial(mixup, alpha=1.0)}))
    shares = [batches.divided(rank, num_processes) for rank in range(num_processes)]
    for number in (0, 3, 5):
        parts = [share.batch(1, number) for share in shares]
        images, labels = batches.batch(1, number)
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        given = [part[1].first if mixed else part[1] for part in parts]
        assert torch.equal(torch.cat(given), labels.first if mixed else labels)
        sizes = [len(labels) for _, labels in parts]
        assert max(sizes) - min(sizes) <= 1 and sizes[0] == max(sizes)
    assert torch.equal(shares[-1].in_order().batch(0, 5)[1], torch.arange(50, NUM))


# --- Many processes -----------------------------------------------------------------------------------


def test_the_shares_of_a_batch_are_the_batch_for_every_number_of_processes():
    """In whole numbers: 7 · (29 / 7) is not 29 in floating point."""
    for size in (1, 2, 28, 29, 58, 64, 116, 232, 1000):
        for num_processes in range(1, 65):
            shares = [Share(rank, num_processes).of(slice(100, 100 + size)) for rank in range(num_processes)]
            assert [share.start for share in shares] == [100, *(share.stop for share in shares[:-1])]
            assert shares[-1].stop == 100 + size
            assert {share.stop - share.start for share in shares} <= {size // num_processes, -(-size // num_processes)}


def test_an_augmentation_called_crop_draws_numbers_of_its_own():
    drawn = []

    def crop(images, draw):
        drawn.append(draw(1))
        return images

    def boxes(sizes, draw):
        drawn.append(draw(1))
        return torch.tensor([0, 0, 8, 8]).expand(len(sizes), 4)

    make(augmentations={"crop": crop}, crop=boxes).batch(0, 0)
    assert not torch.equal(*drawn)


def test_alternating_flips_mirror_each_image_in_every_other_epoch():
    batches = make(augmentations={"alternating_flip": alternating_flip})
    plain, _ = make(seed=None, batch_size=NUM, augmentations={}).batch(0, 0)
    seen = []
    for epoch in range(4):
        shown = [batches.batch(epoch, number) for number in range(len(batches))]
        images, labels = (torch.cat(column) for column in zip(*shown, strict=True))
        images = images[labels.argsort()]
        mirrored = torch.tensor([torch.equal(image, own.flip(2)) for image, own in zip(images, plain, strict=True)])
        assert torch.equal(images, torch.where(mirrored.view(-1, 1, 1, 1), plain.flip(3), plain))
        seen.append(mirrored.tolist())
    assert seen[0] == seen[2] and seen[1] == seen[3] == [not each for each in seen[0]]
    assert 0.2 < sum(seen[0]) / NUM < 0.8
