from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.experiment.network import build_network
from cnnlab.models import INITS, MODELS
from tests.conftest import build_from, small_config
from tests.models.test_models import ARGUMENTS

FACTS = {"num_classes": 10, "in_channels": 3, "image_size": 32}
RESIDUAL = [
    ("residual_net", {}),
    ("resnet20", {}),
    ("resnet50", {"stem": "small"}),
    ("preact_resnet18", {"stem": "small"}),
    ("resnet164", {}),
    ("residual_variants", {"depth": 8}),
    ("residual_variants", {"depth": 8, "order": "bn_after_addition"}),
    ("residual_variants", {"depth": 8, "order": "relu_only_preactivation"}),
    ("residual_variants", {"depth": 8, "order": "full_preactivation"}),
    ("mobilenet_v2", {"stem": "small"}),
    ("shufflenet_v1", {"stem": "small"}),
    ("xception", {"stem": "small"}),
]


def build(name: str, init: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    network = build_from(MODELS, {"name": name, **ARGUMENTS.get(name, {}), **arguments}, **FACTS)
    return network.apply(INITS[init])


@pytest.mark.parametrize("init", list(INITS))
def test_biases_are_zero_and_norms_the_identity(init):
    network = build("vgg11_bn", init)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.weight.any() and not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all() and not module.bias.any()


@pytest.mark.parametrize(
    "init, conv, linear",  # standard deviations for a convolution 64 → 128 of 3×3 and a linear layer 300 → 200
    [
        ("xavier", math.sqrt(2 / (9 * 64 + 9 * 128)), math.sqrt(2 / 500)),
        ("kaiming", math.sqrt(2 / (9 * 128)), math.sqrt(2 / 300)),
        ("normal", 0.01, 0.01),
    ],
)
def test_spread_of_the_weights(init, conv, linear):
    torch.manual_seed(0)
    for layer, std in ((nn.Conv2d(64, 128, 3), conv), (nn.Linear(300, 200), linear)):
        INITS[init](layer)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.02 * std)


@pytest.mark.parametrize("layer", [nn.Conv2d(16, 32, 3), nn.Linear(64, 32)])
def test_rows_of_an_orthogonal_matrix(layer):
    INITS["orthogonal"](layer)
    rows = layer.weight.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(32), atol=1e-5, rtol=0)


def test_signals_of_a_deep_plain_network_live_with_kaiming_and_die_with_normal():
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        spread = {init: build("vgg19", init)(images).std().item() for init in ("kaiming", "orthogonal", "normal")}
    assert spread["kaiming"] > 0.01 and spread["orthogonal"] > 0.01
    assert spread["normal"] < 1e-6


def test_one_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_inits.py").write_text(
        "from torch import nn\n"
        "from cnnlab.models import INITS\n"
        "@INITS.register\n"
        "def halves(module: nn.Module) -> None:\n"
        "    if isinstance(module, nn.Conv2d):\n"
        "        nn.init.constant_(module.weight, 0.5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(INITS, "_builders", dict(INITS._builders))  # what is registered here is forgotten again
    config = small_config(tmp_path, "imports=[my_inits]", "model.init=halves")
    network = build_network(config, config.dataset.build().facts, torch.device("cpu"), trained=False).model
    assert all(m.weight.eq(0.5).all() for m in network.modules() if isinstance(m, nn.Conv2d))
    with pytest.raises(ConfigError, match="no 'halfs'; did you mean halves"):
        small_config(tmp_path, "imports=[my_inits]", "model.init=halfs")


# --- Zeros at the end of residual branches ------------------------------------------------------------------


@pytest.mark.parametrize("name, arguments", RESIDUAL)
def test_every_residual_branch_starts_at_zero_and_can_leave_it(name, arguments):
    network = build(name, "zero_init_residual", **arguments)
    ends = [end for module in network.modules() if (end := getattr(module, "residual_end", None)) is not None]
    outputs = []
    for end in ends:
        end.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert len(outputs) == len(ends) > 0
    assert not any(output.any() for output in outputs)
    assert all(end.weight.grad.any() for end in ends)


def test_a_block_is_its_shortcut_at_first():
    x = torch.randn(2, 16, 8, 8)
    block = build("resnet20", "zero_init_residual").layer1[0].eval()
    assert torch.equal(block(x), x.relu())
    unit = build("preact_resnet18", "zero_init_residual", stem="small").stage1[1].eval()
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(unit(x), x)


def test_a_branch_that_ends_in_a_relu_is_left_alone():
    network = build("residual_variants", "zero_init_residual", depth=8, order="relu_before_addition")
    assert not any(getattr(module, "residual_end", None) for module in network.modules())
    assert all(module.weight.any() for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)))


def test_without_residual_blocks_it_is_kaiming():
    zeroed, plain = (build("vgg11", init).state_dict() for init in ("zero_init_residual", "kaiming"))
    assert all(torch.equal(zeroed[key], plain[key]) for key in plain)
