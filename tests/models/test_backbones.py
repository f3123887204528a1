"""torchvision's networks and timm's: their ends replaced, their weights checked key by key."""

from __future__ import annotations

import pickle
import sys
import types
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from cnnlab.errors import ConfigError
from cnnlab.models import MODELS
from cnnlab.models.backbones import find_published
from cnnlab.models.head import find_head
from cnnlab.models.weights import load_weights, share_channels
from tests.conftest import build_from

ONE_OF_EACH = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "resnet18", "shufflenet_v2_x0_5"),
    *("squeezenet1_1", "swin_t", "vgg11", "vit_b_32"),
]
# Building these takes minutes and gigabytes: RegNets compute their widths, so they cannot be built without memory.
TOO_LARGE = {"regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf", "regnet_x_16gf", "regnet_x_32gf"}
ALL = [
    name if name in ONE_OF_EACH else pytest.param(name, marks=pytest.mark.slow)
    for name in models.list_models(module=models)
    if name not in TOO_LARGE
]


def build(
    arch: str = "resnet18",
    num_classes: int = 7,
    in_channels: int = 3,
    library: str = "torchvision",
    weights: str | None = None,
) -> nn.Module:
    """The network of such a configuration, with the weights that it begins with."""
    given = {"name": library, "arch": arch}
    network = build_from(MODELS, given, num_classes=num_classes, in_channels=in_channels, image_size=224)
    if weights is not None:
        load_weights(network, weights, find_published(library, arch))
    return network


@pytest.mark.parametrize("arch", ALL)
def test_every_network_has_the_classes_and_channels_of_the_dataset(arch):
    with torch.device("cpu" if arch.startswith("regnet") else "meta"):
        network = build(arch, num_classes=7, in_channels=1).eval()
        with torch.no_grad():
            assert network(torch.zeros(2, 1, 224, 224)).shape == (2, 7)
    head = network.get_submodule(find_head(network))
    assert head.weight.shape[0] == 7


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_no_auxiliary_outputs_in_training(arch):
    with torch.device("meta"):
        assert build(arch).train()(torch.zeros(2, 3, 299, 299)).shape == (2, 7)


def test_untrained_it_is_torchvisions():
    torch.manual_seed(0)
    theirs = models.resnet18(weights=None).state_dict()
    torch.manual_seed(0)
    ours = build(num_classes=1000).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_an_unknown_arch_has_near_matches():
    with pytest.raises(ConfigError, match="model.arch: torchvision has no 'resnet35'; did you mean .*resnet34"):
        build("resnet35")


@pytest.mark.parametrize("in_channels", [1, 4])
def test_shared_channels_respond_to_grey_as_before(in_channels):
    conv = nn.Conv2d(3, 5, 3)
    grey = torch.rand(2, 1, 8, 8)
    shared = share_channels(conv.weight, in_channels)
    response = F.conv2d(grey.expand(-1, in_channels, -1, -1), shared, conv.bias)
    torch.testing.assert_close(response, conv(grey.expand(-1, 3, -1, -1)))


# --- Weights from a file ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return models.resnet18(weights=None).state_dict()


@pytest.fixture
def save(tmp_path):
    def save(contents: object) -> str:
        torch.save(contents, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save


def test_a_whole_file_is_loaded_and_the_head_said_to_be_new(state, save, capsys):
    network = build(weights=save(state))
    loaded = network.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state if not key.startswith("fc."))
    assert loaded["fc.weight"].shape == (7, 512)
    said = capsys.readouterr().err
    assert said == "model.weights: the last layer, fc, is for 1000 classes: made anew for 7\n"


def test_a_head_that_fits_is_kept(state, save, capsys):
    network = build(num_classes=1000, weights=save(state))
    assert torch.equal(network.fc.weight, state["fc.weight"])
    assert capsys.readouterr().err == ""


def test_grey_images_get_summed_weights(state, save, capsys):
    network = build(in_channels=1, weights=save(state))
    torch.testing.assert_close(network.conv1.weight, state["conv1.weight"].sum(dim=1, keepdim=True))
    assert "the first layer, conv1, reads 3 channels: summed for 1" in capsys.readouterr().err


def test_a_checkpoint_of_an_earlier_run_for_grey_images_and_other_classes(save):
    torch.manual_seed(2)
    earlier = build(num_classes=3, in_channels=1)
    path = save({"format": 1, "model": earlier.state_dict(), "config": {"seed": 0}})
    same = build(num_classes=3, in_channels=1, weights=path).state_dict()
    assert all(torch.equal(same[key], value) for key, value in earlier.state_dict().items())
    assert build(num_classes=7, in_channels=3, weights=path).fc.weight.shape == (7, 512)


def test_files_older_than_the_counters_of_batch_normalisation(state, save):
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert torch.equal(build(weights=save(old)).bn1.weight, state["bn1.weight"])


def test_files_older_than_the_names_of_densenet(save):
    state = models.densenet121(weights=None).state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    loaded = build("densenet121", num_classes=1000, weights=save(old)).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_auxiliary_classifiers_are_left_out_and_said_to_be(save, capsys):
    state = models.googlenet(weights=None, init_weights=False).state_dict()
    assert any(key.startswith("aux1.") for key in state)
    network = build("googlenet", num_classes=1000, weights=save(state))
    assert not any(key.startswith("aux") for key in network.state_dict())
    assert "auxiliary classifiers" in capsys.readouterr().err


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(state, save):
    odd = {key: value for key, value in state.items() if not key.startswith("layer4.")}
    odd |= {"extra.weight": torch.zeros(2), "bn1.weight": torch.zeros(32)}
    path = save(odd)
    with pytest.raises(ConfigError) as told:
        build(weights=path)
    message = str(told.value)
    num_missing = sum(key.startswith("layer4.") and "num_batches" not in key for key in state)
    assert "does not fit this network, and nothing was loaded" in message
    assert f"{num_missing} missing: layer4.0.conv1.weight" in message and f"and {num_missing - 10} more" in message
    assert "1 unexpected: extra.weight\n" in message
    assert "1 of another shape: bn1.weight (32, expected 64)" in message


def test_weights_of_another_network(state, save):
    with pytest.raises(ConfigError, match="missing: features.0.weight"):
        build("squeezenet1_1", weights=save(state))


@pytest.mark.parametrize(
    "contents, told",
    [
        (b"torn", "cannot be read|is no file of weights"),
        (b"", "cannot be read"),
        (pickle.dumps(print, protocol=2), "is no file of weights, or holds more than tensors"),
    ],
)
def test_files_that_are_none(tmp_path, contents, told):
    (tmp_path / "odd.pth").write_bytes(contents)
    with pytest.raises(ConfigError, match=told):
        build(weights=str(tmp_path / "odd.pth"))


def test_a_file_of_something_else(save):
    with pytest.raises(ConfigError, match="holds no weights; expected a mapping of names to tensors"):
        build(weights=save([1, 2, 3]))


def test_a_file_that_is_not_there():
    told = r"no file nowhere\.pth; expected a file of weights, a run, or one of .*DEFAULT"
    with pytest.raises(ConfigError, match=told):
        build(weights="nowhere.pth")


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_are_asked_for_and_adapted(monkeypatch, state, weights):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: state)
    network = build(in_channels=1, weights=weights)
    assert torch.equal(network.layer4[1].bn2.weight, state["layer4.1.bn2.weight"])
    assert network.conv1.weight.shape == (64, 1, 7, 7) and network.fc.weight.shape == (7, 512)


def test_without_a_network_the_file_and_its_path_are_named(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError) as told:
        build(weights="DEFAULT")
    for part in ("no route to host", f"{tmp_path}/checkpoints/resnet18-", "https://", "model.weights=FILE"):
        assert part in str(told.value)


# --- timm, by a stand-in ------------------------------------------------------------------------------------


class Stand(nn.Module):
    """What cnnlab uses of a timm network."""

    pretrained_cfg = {"classifier": "head", "num_classes": 1000, "hf_hub_id": "timm/stand", "url": ""}

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).mean((2, 3)))


@pytest.fixture
def stand_in(monkeypatch):
    library = types.ModuleType("timm")
    library.online = True

    def create_model(arch: str, pretrained: bool, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        if pretrained and not library.online:
            raise OSError("offline")
        network = Stand(num_classes, in_chans)
        if pretrained:
            nn.init.ones_(network.conv.weight)
        return network

    library.create_model = create_model
    library.list_models = lambda: ["stand", "other"]
    library.is_model = lambda arch: arch.partition(".")[0] in library.list_models()
    monkeypatch.setitem(sys.modules, "timm", library)
    return library


def test_timm_networks_get_classes_and_channels(stand_in):
    network = build("stand.tag", in_channels=1, library="timm")
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(("drawn", "most"), [(0.707, 8**-0.5), (0.1, 0.1), (0.0, 0.0)])
def test_the_last_layer_of_timm_is_not_drawn_wider_than_torch_does(stand_in, monkeypatch, drawn, most):
    """As that of an EfficientNet for two classes is: ±1/√2, however many features there are."""

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(8, num_classes)
        nn.init.uniform_(self.head.weight, -drawn, drawn)

    monkeypatch.setattr(Stand, "reset_classifier", reset_classifier)
    largest = build("stand", library="timm").head.weight.abs().max().item()
    assert 0.8 * most <= largest <= most


def test_the_head_of_an_efficientnet_begins_unsure():
    pytest.importorskip("timm")
    network = build("efficientnet_lite0", library="timm").eval()
    assert network.classifier.weight.abs().max() <= 1280**-0.5


def test_timm_has_near_matches(stand_in):
    with pytest.raises(ConfigError, match="timm has no 'stend'; did you mean stand"):
        build("stend", library="timm")


def test_timm_weights_that_are_published(stand_in, capsys):
    assert build("stand", library="timm", weights="DEFAULT").conv.weight.eq(1).all()
    assert "the last layer, head, is for 1000 classes: made anew for 7" in capsys.readouterr().err
    stand_in.online = False
    with pytest.raises(ConfigError, match="offline.*wanted: timm/stand"):
        build("stand", library="timm", weights="DEFAULT")


def test_timm_weights_from_a_file_for_other_classes_and_channels(stand_in, save, capsys):
    earlier = Stand(num_classes=1000, in_channels=3)
    network = build("stand", in_channels=1, library="timm", weights=save(earlier.state_dict()))
    torch.testing.assert_close(network.conv.weight, earlier.conv.weight.sum(dim=1, keepdim=True))
    assert torch.equal(network.conv.bias, earlier.conv.bias) and network.head.weight.shape == (7, 8)
    assert capsys.readouterr().err.count("model.weights: ") == 2
    with pytest.raises(ConfigError, match="1 missing: conv.bias"):
        build(
            "stand", library="timm", weights=save({k: v for k, v in earlier.state_dict().items() if k != "conv.bias"})
        )


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r'pip install "cnnlab\[timm\]"'):
        build(library="timm")
