"""One network of each family learns: a short run on the embedded digits ends far above chance, which is 0.1.

Small images and the narrowest networks keep each run to some seconds (AlexNet, VGG and Xception: half a minute).
"""

from __future__ import annotations

import pytest

from cnnlab.config import parse
from cnnlab.models import MODELS
from cnnlab.runs.start import start
from tests.conftest import compose_tree
from tests.models.pinned import PARAMETERS

# Of each family: network, image size, steps, learning rate of Adam, and what else differs from the defaults.
RUNS = [
    ("linear", 28, 60, 0.001, []),
    ("mlp", 28, 60, 0.001, []),
    ("lenet", 28, 150, 0.01, ["model.init=xavier"]),  # sigmoids need both
    ("two_conv", 28, 60, 0.001, []),
    ("inception_net", 28, 60, 0.001, []),
    ("residual_net", 28, 60, 0.001, []),
    ("residual_variants", 16, 40, 0.01, ["model.depth=8"]),
    ("resnet20", 16, 40, 0.01, []),
    ("resnet56", 8, 40, 0.01, ["model.init=zero_init_residual"]),
    ("resnet164", 8, 40, 0.01, []),
    ("preact_resnet18", 8, 40, 0.001, ["model.stem=small"]),
    ("densenet40_k12", 8, 50, 0.01, []),
    ("alexnet", 64, 40, 0.0001, ["model.init=kaiming", "batch_size=32"]),
    ("vgg11", 32, 30, 0.0005, ["model.init=kaiming", "model.classifier=small"]),
    ("vgg11_bn", 32, 20, 0.001, ["model.classifier=small"]),
    ("xception", 12, 50, 0.0005, ["model.stem=small", "batch_size=32"]),
    ("mobilenet_v1", 16, 60, 0.01, ["model.stem=small", "model.width=0.25"]),
    ("mobilenet_v2", 16, 60, 0.01, ["model.stem=small", "model.width=0.35"]),
    ("shufflenet_v1", 16, 40, 0.01, ["model.stem=small"]),
    ("shufflenet_v2_x0_5", 16, 40, 0.01, ["model.stem=small"]),
    ("whitened_cnn", 16, 40, 0.01, ["model.widths=[16,16,16]", "model.init=dirac", "model.init_from_data=whitening"]),
    ("torchvision", 32, 40, 0.001, ["model.arch=resnet18"]),
]


def test_every_family_is_there():
    family = {name: MODELS[name].__module__ for name in PARAMETERS}
    assert {family[name] for name, *_ in RUNS} == set(family.values())


@pytest.mark.slow
@pytest.mark.parametrize("name, image_size, steps, lr, others", RUNS, ids=[name for name, *_ in RUNS])
def test_it_learns(name, image_size, steps, lr, others, tmp_path):
    facts = [f"dataset.image_size={image_size}", f"steps={steps}", f"optimizer.lr={lr}", "schedule=cosine"]
    tree = compose_tree(f"model={name}", *facts, *others, "engine.device=cpu", f"output_dir={tmp_path}")
    run = start(parse(tree), [])
    assert run.read_json(run.summary)["test"]["accuracy"] > 0.5
