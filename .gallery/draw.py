"""The README's pictures: what a page of `cnnlab report` shows between two of its elements.

    cnnlab train dataset=fashion_mnist name=fashion epochs=2 schedule=one_cycle optimizer.lr=0.005
    cnnlab train dataset=image_folder dataset.root=CIFAR10 dataset.image_size=32 name=cifar10 model=residual_net \
        augment=flip_crop schedule=one_cycle optimizer.lr=0.01 epochs=4 batch_size=128 \
        engine.precision=bf16 engine.threads=1
    cnnlab train -m optimizer.lr=0.0003,0.001,0.003,0.01 augment=none,shift model=lenet,mnist_cnn epochs=6 \
        sweep.seeds=2 sweep.pruner=median

(two of the sweep's trials were killed from outside, and show as failed), and, after `cnnlab report` of each, with
Chromium:

    python .gallery/draw.py fashion PAGE "#confusion" "#cell figure:nth-of-type(15)"
    python .gallery/draw.py cifar10 PAGE "#network" "h2#network ~ .groups + h3"
    python .gallery/draw.py sweep PAGE "#parameters" "#parameters ~ .grid > div:nth-child(3)"
"""

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.reports.browser import Browser  # noqa: E402

name, page, first, last = sys.argv[1:]
with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
    browser.call("Emulation.setScrollbarsHidden", hidden=True)
    browser.open(Path(page), width=900)
    browser.run("document.querySelectorAll('.plot').forEach(draw)")
    browser.run("document.querySelector('button[data-cell]')?.click()")  # the pair that is confused most often
    time.sleep(3)  # WebGL draws when it likes
    top, bottom = (
        round(browser.run(f"document.querySelector('{each}').getBoundingClientRect().top + scrollY"))
        for each in (first, last)
    )
    taken = Path(profile) / "whole.png"
    browser.photograph(taken, whole=True)
    with Image.open(taken) as whole:
        shown = whole.convert("RGB").crop((0, top, whole.width, bottom))
    shown.save(HERE / f"{name}.webp", quality=85)
