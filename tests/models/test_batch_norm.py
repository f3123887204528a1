"""Batch normalisation over all processes' images; of many processes: see test_distributed.py."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cnnlab.models.batch_norm import WholeBatchNorm, synchronise_batch_norm

IMAGES = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)).double() * 3 + 2


@pytest.mark.parametrize("given", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_of_one_process_it_is_torchs(given):
    usual = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3, **given), nn.Flatten(), nn.BatchNorm1d(27, **given))
    usual = usual.double()
    whole = synchronise_batch_norm(copy.deepcopy(usual), torch.device("cpu"))
    assert isinstance(whole[1], WholeBatchNorm) and isinstance(whole[3], WholeBatchNorm)
    for network in (usual, whole):
        for images in (IMAGES[:2], IMAGES):
            (network(images) ** 3).sum().backward()
    torch.testing.assert_close(whole.state_dict(), usual.state_dict())
    torch.testing.assert_close([p.grad for p in whole.parameters()], [p.grad for p in usual.parameters()])
    torch.testing.assert_close(whole.eval()(IMAGES), usual.eval()(IMAGES))
    with pytest.raises(ValueError, match="more than one value per channel"):
        whole.train()(IMAGES[:1])
