"""mixup and cutmix against slow ones, image by image; what chance picks; what the labels become."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.data.batches import Augment, Batches
from cnnlab.data.dataset import ImageSet
from cnnlab.data.mix import cutmix, mixup
from cnnlab.data.normalise import Normalise
from cnnlab.optim import LOSSES
from cnnlab.optim.losses import build_loss
from cnnlab.seeds import derive_seed
from cnnlab.tasks import BINARY, MULTICLASS, Mixed, mix_labels
from tests.conftest import choose

NUM, HEIGHT, WIDTH = 26, 9, 7
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = ImageSet.of(
    torch.randint(0, 256, (NUM, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=GENERATOR),
    torch.arange(NUM),  # the label names the image
)


def make(seed: int = 3, batch_size: int = 10, labels: Tensor = IMAGES.labels, **mixes) -> Batches:
    images = ImageSet(IMAGES.store, labels)
    normalise, augment = Normalise((0.4,) * 3, (0.2,) * 3), Augment(mixes=mixes)
    return Batches(images, torch.arange(NUM), batch_size, normalise, seed=seed, augment=augment)


def test_mixup_blends_every_image_with_the_next_and_its_labels_alike():
    for number in range(3):
        plain, labels = make().batch(1, number)
        mixed, both = make(mixup=partial(mixup, alpha=1.0)).batch(1, number)
        rng = Random(derive_seed(3, 1, "mix", number))
        rng.choice(["mixup"]), rng.random()
        share = rng.betavariate(1.0, 1.0)
        assert both.weight == share and torch.equal(both.first, labels)
        for index in range(len(plain)):
            partner = (index + 1) % len(plain)  # the last batch has 6
            torch.testing.assert_close(mixed[index], share * plain[index] + (1 - share) * plain[partner])
            assert both.second[index] == labels[partner]


def test_cutmix_pastes_one_rectangle_and_its_area_is_the_partners_weight_exactly():
    areas = set()
    for epoch in range(30):
        plain, labels = make().batch(epoch, 0)
        mixed, both = make(cutmix=partial(cutmix, alpha=1.0)).batch(epoch, 0)
        partners = plain.roll(-1, 0)
        pasted = (mixed == partners).all(1) & (plain != partners).any(1)  # (N, H, W)
        assert torch.equal(mixed, torch.where(pasted.unsqueeze(1), partners, plain))
        rows, columns = pasted.any(2)[0].nonzero(), pasted.any(1)[0].nonzero()
        num_pasted = 0
        if len(rows):
            top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
            assert pasted[:, top:bottom, left:right].all()  # the same whole rectangle in every image
            num_pasted = int((bottom - top) * (right - left))
        assert int(pasted.sum()) == num_pasted * len(plain)
        if num_pasted:
            assert both.weight == 1 - num_pasted / (HEIGHT * WIDTH)
            assert torch.equal(both.first, labels) and torch.equal(both.second, labels.roll(-1, 0))
        else:
            assert torch.equal(both, labels)
        areas.add(num_pasted)
    assert len(areas) > 10


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_are_drawn_from_beta(alpha):
    images = torch.zeros(2, 1, 1, 1)
    weights = torch.tensor([mixup(images, images, Random(seed), alpha=alpha)[1] for seed in range(4000)])
    theirs = torch.distributions.Beta(alpha, alpha)
    expected = theirs.sample((40_000,))
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        below = (weights < expected.quantile(share)).float().mean()
        assert below == pytest.approx(share, abs=0.035)
    assert weights.var() == pytest.approx(theirs.variance.item(), rel=0.1)


def test_the_share_of_a_rectangle_before_the_edge_cuts_it_is_one_minus_lambda():
    """A large image: centre and size as the paper draws them, the part inside counted."""
    images = torch.zeros(1, 200, 100, 1)
    for seed in range(50):
        weight = cutmix(images, images, Random(seed), alpha=1.0)[1]
        rng = Random(seed)
        rng.random()
        side = (1 - rng.betavariate(1.0, 1.0)) ** 0.5
        height, width, y, x = int(200 * side), int(100 * side), rng.randrange(200), rng.randrange(100)
        inside_rows = sum(0 <= row < 200 for row in range(y - height // 2, y - height // 2 + height))
        inside_columns = sum(0 <= column < 100 for column in range(x - width // 2, x - width // 2 + width))
        assert weight == 1 - inside_rows * inside_columns / 20_000


def test_p_is_the_share_of_batches_and_both_share_the_rest():
    def kinds(**mixes) -> list[str]:
        found = []
        for epoch in range(200):
            plain, _ = make(batch_size=13).batch(epoch, 0)
            mixed, _ = make(batch_size=13, **mixes).batch(epoch, 0)
            kept = (mixed == plain).float().mean()
            found.append("none" if kept == 1 else "mixup" if kept < 0.05 else "cutmix")
        return found

    halves = kinds(mixup=partial(mixup, alpha=1.0, p=0.5))
    assert 70 < halves.count("none") < 130 and "cutmix" not in halves
    both = kinds(mixup=partial(mixup, alpha=1.0), cutmix=partial(cutmix, alpha=8.0))  # about half of the area
    assert 70 < both.count("mixup") < 130 and both.count("none") < 10


def test_a_mixed_batch_depends_on_nothing_but_seed_epoch_and_number():
    mixes = {"mixup": mixup, "cutmix": cutmix}
    used = make(**mixes)
    for epoch, number in ((0, 0), (2, 1), (1, 2)):
        used.batch(epoch, number)
    for epoch, number in ((1, 1), (0, 2)):
        (images, labels), (again, labels_again) = used.batch(epoch, number), make(**mixes).batch(epoch, number)
        assert torch.equal(images, again) and labels.weight == labels_again.weight
    assert make(seed=4, **mixes).batch(0, 2)[1].weight != labels.weight
    assert torch.equal(used.in_order().batch(0, 0)[1], torch.arange(10))


# --- Labels ---------------------------------------------------------------------------------------------


def test_the_loss_of_mixed_classes_is_the_cross_entropy_of_the_mixed_distribution():
    outputs = torch.randn(8, 5, generator=GENERATOR)
    first, second = torch.arange(8) % 5, torch.arange(8) * 3 % 5
    target = 0.3 * F.one_hot(first, 5) + 0.7 * F.one_hot(second, 5)
    loss = build_loss(choose(LOSSES, "cross_entropy", label_smoothing=0.1), MULTICLASS, 5, torch.device("cpu"))
    labels = mix_labels(first, second, 0.3)
    torch.testing.assert_close(loss(outputs, labels), F.cross_entropy(outputs, target, label_smoothing=0.1))
    # In parts, as for a batch that does not fit into memory.
    parts = [loss(outputs[some], labels[some]) for some in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(sum(parts) / 2, loss(outputs, labels))
    assert len(labels) == 8 and len(labels[2:5]) == 3


def test_the_loss_of_a_mixed_logit_is_that_of_the_mixed_target():
    outputs, first, second = torch.randn(6, 1, generator=GENERATOR), torch.arange(6) % 2, torch.arange(6) // 3
    loss = build_loss(choose(LOSSES, "bce_with_logits"), BINARY, 2, torch.device("cpu"))
    expected = F.binary_cross_entropy_with_logits(outputs[:, 0], 0.8 * first + 0.2 * second)
    torch.testing.assert_close(loss(outputs, mix_labels(first, second, 0.8)), expected)


def test_numbers_are_mixed_themselves():
    numbers = torch.randn(NUM, 2, generator=GENERATOR)
    _, plain = make(labels=numbers).batch(0, 0)
    _, mixed = make(labels=numbers, mixup=partial(mixup, alpha=1.0)).batch(0, 0)
    rng = Random(derive_seed(3, 0, "mix", 0))
    rng.choice(["mixup"]), rng.random()
    share = rng.betavariate(1.0, 1.0)
    torch.testing.assert_close(mixed, share * plain + (1 - share) * plain.roll(-1, 0))


def test_a_prediction_counts_as_much_as_its_label_weighs():
    outputs = torch.eye(4)  # predicts 0, 1, 2, 3
    labels = Mixed(torch.tensor([0, 1, 0, 0]), torch.tensor([0, 2, 2, 1]), 0.7)
    assert MULTICLASS.add_up_score(outputs, labels).item() == pytest.approx(1 + 0.7 + 0.3)
    logits = torch.tensor([[2.0], [-2.0], [2.0], [2.0]])
    labels = Mixed(torch.tensor([1, 1, 0, 1]), torch.tensor([0, 0, 0, 1]), 0.7)
    assert BINARY.add_up_score(logits, labels).item() == pytest.approx(0.7 + 0.3 + 0 + 1)
