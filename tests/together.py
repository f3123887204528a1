"""Runs of several processes, one after the other, for one start of torchrun: see test_distributed.py.

    torchrun --standalone --nproc-per-node 2 -m tests.together FOLDER
    python -m tests.together FOLDER

Trains each of `RUNS` in FOLDER/<name>, then goes on with a run that it has stopped itself, FOLDER/stopped, and with
one that it may find in FOLDER/begun.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from cnnlab.config import Config, parse
from cnnlab.distributed import run_together
from cnnlab.models import MODELS
from cnnlab.runs import training
from cnnlab.runs.start import resume, start
from tests.conftest import SMALL, compose_tree, only_run

# 1,294 images: 12 batches of 100 and one of 94; 3 of 431 and one of a single image, of which one process has none.
PLAIN = [
    *SMALL,
    "batch_size=100",
    "optimizer.lr=0.01",
    "augment=flip_crop_cutout",
    "augment.cutout.size=3",
    "engine.checkpoint_every=7 steps",
]
RUNS = {
    "plain": PLAIN,
    "everything": [
        *PLAIN,
        "+augment.mixup={alpha: 0.4}",
        "average=ema",
        "average.decay=0.8",
        "schedule=cosine",
        "optimizer.clip_norm=0.5",
        "engine.micro_batch_size=16",
        "loss.class_weights=[1,2,3,1,2,3,1,2,3,1]",
    ],
    "batch_norm": [
        *SMALL,
        "batch_size=431",
        "model.name=normed_net",
        "optimizer.lr=0.01",
        "average=swa",
        "engine.sync_batch_norm=true",
    ],
    "hardest": [*PLAIN, "learn_hardest=0.3", "loss.class_weights=[1,2,3,1,2,3,1,2,3,1]", "batch_size=431"],
    "single_images": [*SMALL, "batch_size=431", "optimizer=muon", "optimizer.lr=0.02", "engine.eval_batch_size=50"],
    "features": [*SMALL, "batch_size=431", "epochs=3", "model.freeze=backbone", "sampling=balanced"],
    "lbfgs": ["experiment=linear_regression", "optimizer=lbfgs", "optimizer.lr=1.0", "epochs=3", "engine.device=cpu"],
}
STOPPED = [*PLAIN, "steps=20"]
LONGER = ["steps=null"]


def normed_net(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Biases in front of a normalisation would have gradients of rounding errors only, and Adam follows those."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.Flatten(),
        nn.Linear(8 * ((image_size - 1) // 2) ** 2, num_classes),
    )


def configure(folder: Path, overrides: list[str]) -> Config:
    return parse(compose_tree(f"output_dir={folder}", *overrides))


def train_all(folder: Path) -> int:
    training.draw_pictures = lambda *arguments: None  # nothing here looks at pictures
    for name, overrides in RUNS.items():
        start(configure(folder / name, overrides), [])
    run = start(configure(folder / "stopped", STOPPED), [])
    resume(str(run.path), LONGER)
    if (folder / "begun").exists():
        resume(str(only_run(folder / "begun")), LONGER)
    return 0


if __name__ == "__main__":
    MODELS.register(normed_net)  # here alone: other tests look at all models that there are
    torch.set_num_threads(1)
    sys.exit(run_together(lambda: train_all(Path(sys.argv[1])), lambda: train_all(Path(sys.argv[1]))))
