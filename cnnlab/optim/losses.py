"""Losses: functions of (outputs, labels) that return the batch's mean."""

from __future__ import annotations

from functools import partial

from torch.nn import functional as F

from cnnlab.optim.registry import LOSSES, Loss
from cnnlab.signature import Fraction


@LOSSES.register
def cross_entropy(*, label_smoothing: Fraction = 0.0) -> Loss:
    """Softmax cross-entropy; outputs (N, classes), labels int64 (N,)."""
    return partial(F.cross_entropy, label_smoothing=label_smoothing)
