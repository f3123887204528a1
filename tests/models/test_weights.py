"""Weights in the forms in which the world keeps them: prefixes, parts of checkpoints, runs, published ones."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision import models

from cnnlab.engine.checkpoint import load_checkpoint, save_checkpoint
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.models import MODELS
from cnnlab.models.backbones import find_published
from cnnlab.models.head import replace_head
from cnnlab.models.weights import load_weights, read_file, strip_prefixes
from cnnlab.runs.start import start
from tests.conftest import build_from, small_config
from tests.data.damage import FEW, MANY, damage


def build(name: str = "resnet20", num_classes: int = 10, in_channels: int = 3, seed: int = 1, **arguments) -> nn.Module:
    torch.manual_seed(seed)
    facts = {"num_classes": num_classes, "in_channels": in_channels, "image_size": 32}
    return build_from(MODELS, {"name": name, **arguments}, **facts)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return build(seed=0)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.pth"


def load(network: nn.Module, source: object, name: str = "resnet20") -> nn.Module:
    load_weights(network, str(source), find_published(name, None))
    return network


def assert_same_weights(network: nn.Module, other: nn.Module, but: str = "no head") -> None:
    left, right = network.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    assert [key for key in left if not key.startswith(but) and not torch.equal(left[key], right[key])] == []


# --- Prefixes -----------------------------------------------------------------------------------------------

PREFIXES = [
    *("", "module.", "_orig_mod.", "model.", "network.", "net.", "backbone."),
    *("_orig_mod.module.", "module._orig_mod.", "model._orig_mod.", "model.module.", "module.model.backbone."),
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_every_name_is_left_out(trained, path, capsys, prefix):
    torch.save({prefix + key: value for key, value in trained.state_dict().items()}, path)
    assert_same_weights(load(build(), path), trained)
    assert capsys.readouterr().err == ""


def test_wrappers_of_torch_put_these_before_the_names(trained, path):
    for wrapped in (nn.DataParallel(build(seed=0)), torch.compile(build(seed=0))):
        torch.save(wrapped.state_dict(), path)
        assert "fc.weight" not in torch.load(path)
        assert_same_weights(load(build(), path), trained)


def test_what_stands_before_some_of_the_names_alone_is_told(trained, path):
    state = {f"module.{key}": value for key, value in trained.state_dict().items()}
    torch.save({**state, "criterion.weight": torch.ones(10)}, path)
    with pytest.raises(ConfigError, match="(?s)missing: conv1.weight.*unexpected: module.conv1.weight"):
        load(build(), path)


def test_a_networks_own_names_may_begin_so():
    own = {"net.0.weight": torch.zeros(1), "net.2.weight": torch.ones(1)}
    assert strip_prefixes(own, own) == own
    wrapped = {f"module.{key}": value for key, value in own.items()}
    assert strip_prefixes(wrapped, own) == own


# --- Parts of a file ----------------------------------------------------------------------------------------

PARTS = ["model", "state_dict", "model_state_dict", "state_dict_ema", "model_ema", "ema", "weights", "net"]


@pytest.mark.parametrize("part", PARTS)
def test_weights_beside_other_things(trained, path, part):
    others = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "lr_scheduler": None}
    torch.save({**others, part: trained.state_dict(), "hyper_parameters": OrderedDict(lr=0.1)}, path)
    assert_same_weights(load(build(), path), trained)


def test_a_part_within_a_part_as_of_lightning(trained, path):
    state = {f"model._orig_mod.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.5", "callbacks": {}}, path)
    assert_same_weights(load(build(), path), trained)
    torch.save({"ema": {"module": 1, "state_dict": state}, "epoch": 1}, path)
    assert_same_weights(load(build(), path), trained)


def test_an_average_of_torchs(trained, path):
    averaged = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(trained)
    for contents in (averaged.state_dict(), {"ema": averaged.state_dict(), "epoch": 2}):
        torch.save(contents, path)
        assert "n_averaged" in contents or "n_averaged" in contents["ema"]
        assert_same_weights(load(build(), path), trained)


@pytest.mark.parametrize("contents", [{"model": 3}, {"state_dict": {"fc.weight": "text"}}, {1: torch.zeros(1)}])
def test_parts_that_are_no_weights(path, contents):
    torch.save(contents, path)
    with pytest.raises(ConfigError, match="holds no weights; expected a mapping of names to tensors"):
        load(build(), path)


def test_a_safetensors_file(trained, tmp_path):
    library = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    library.save_file({f"module.{key}": value for key, value in trained.state_dict().items()}, path)
    assert_same_weights(load(build(), path), trained)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        load(build(), path)


def write_zip(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"epoch": 3, "state_dict": state}, path)


def write_pickle(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_safetensors(path: Path, state: dict[str, torch.Tensor]) -> None:
    pytest.importorskip("safetensors.torch").save_file(state, path)


@pytest.mark.parametrize("num", [2 * FEW, pytest.param(2 * MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("ending", "write"), [("pth", write_zip), ("pt", write_pickle), ("safetensors", write_safetensors)]
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_are_told_and_never_a_traceback(tmp_path, ending, write, num):
    """Where there are checksums, in torch's newer format, what is read is what was written."""
    state = {"conv.weight": torch.randn(4, 3, 3, 3), "fc.bias": torch.arange(5.0), "count": torch.tensor(7)}
    path = tmp_path / f"weights.{ending}"
    write(path, state)
    num_read = 0
    for changed in damage(path.read_bytes(), num):
        path.write_bytes(changed)
        try:
            found = read_file(path)
        except ConfigError as error:
            assert f"weights.{ending}" in str(error)
            continue
        num_read += 1
        if ending == "pth":
            assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
    assert num_read < num / (4 if ending == "pth" else 1)


def test_weights_that_are_no_numbers_are_told(trained, path):
    state = trained.state_dict()
    torch.save({key: value / 0 if key == "fc.bias" else value for key, value in state.items()}, path)
    with pytest.raises(ConfigError, match="holds weights that are no finite numbers .*fc.bias"):
        load(build(), path)


def test_safetensors_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ConfigError, match="needs the package safetensors: pip install safetensors"):
        read_file(tmp_path / "model.safetensors")


# --- Runs ---------------------------------------------------------------------------------------------------


def save_run(folder: Path, **checkpoints: nn.Module) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name, network in checkpoints.items():
        save_checkpoint(folder / "checkpoints" / f"{name}.pt", {"model": network.state_dict(), "state": {"step": 1}})
    return folder


def test_a_run_has_chosen_its_best_weights_or_its_last(trained, tmp_path):
    other = build(seed=2)
    assert_same_weights(load(build(), save_run(tmp_path / "both", best=trained, last=other)), trained)
    assert_same_weights(load(build(), save_run(tmp_path / "last", last=other)), other)


def test_an_end_inside_an_epoch_that_was_best_is_what_a_run_has_chosen(trained, tmp_path):
    run = save_run(tmp_path / "run", best=build(seed=5), last=trained)
    (run / "summary.json").write_text('{"chosen": "last.pt"}')
    assert_same_weights(load(build(), run), trained)
    (run / "summary.json").write_text("torn")
    assert_same_weights(load(build(), run), build(seed=5))


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="folder without checkpoints/best.pt and checkpoints/last.pt: no trained run"):
        load(build(), tmp_path)


def test_a_run_begins_with_the_weights_of_another(tmp_path):
    first = start(small_config(tmp_path / "first", "epochs=1"), [])
    given = ["steps=1", "optimizer=sgd", "optimizer.lr=1e-30", f"model.weights={first.path}"]
    second = start(small_config(tmp_path / "second", *given), [])
    chosen, state = torch.load(first.best)["model"], torch.load(second.last)["model"]
    parameters = [key for key in chosen if "running" not in key and "num_batches" not in key]
    assert len(parameters) > 5 and all(torch.equal(state[key], chosen[key]) for key in parameters)


# --- Heads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [10, 4])
def test_a_deeper_head_is_kept_as_it_was_made(trained, path, capsys, num_classes):
    torch.save(trained.state_dict(), path)
    network = build(num_classes=num_classes)
    replace_head(network, [16], dropout=0.1)
    before = {key: value.clone() for key, value in network.fc.state_dict().items()}
    load(network, path)
    assert network.fc.state_dict().keys() == before.keys() == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert all(torch.equal(value, before[key]) for key, value in network.fc.state_dict().items())
    network.fc = trained.fc
    assert_same_weights(network, trained)
    told = {10: "another: made anew", 4: "for 10 classes: made anew for 4"}[num_classes]
    assert capsys.readouterr().err == f"model.weights: the last layer, fc, is {told}\n"


def test_a_plain_head_is_kept_beside_a_deeper_one_in_the_file(path, capsys):
    deeper = build(seed=0)
    replace_head(deeper, [16], dropout=0.0)
    torch.save(deeper.state_dict(), path)
    network = build()
    before = network.fc.weight.clone()
    assert torch.equal(load(network, path).fc.weight, before)
    assert torch.equal(network.conv1.weight, deeper.conv1.weight)
    assert "the last layer, fc, is another: made anew" in capsys.readouterr().err


def test_the_same_deeper_head_is_loaded(path, capsys):
    networks = [build(seed=seed) for seed in (0, 1)]
    for network in networks:
        replace_head(network, [16], dropout=0.0)
    torch.save(networks[0].state_dict(), path)
    assert_same_weights(load(networks[1], path), networks[0])
    assert capsys.readouterr().err == ""


def test_both_ends_of_a_network_of_our_own(trained, path, capsys):
    torch.save(trained.state_dict(), path)
    network = load(build(num_classes=4, in_channels=1), path)
    torch.testing.assert_close(network.conv1.weight, trained.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(network.layer3[2].bn2.running_var, trained.layer3[2].bn2.running_var)
    assert torch.equal(network.fc.weight, build(num_classes=4, in_channels=1).fc.weight)
    assert capsys.readouterr().err == (
        "model.weights: the first layer, conv1, reads 3 channels: summed for 1\n"
        "model.weights: the last layer, fc, is for 10 classes: made anew for 4\n"
    )


def test_a_head_of_another_name(trained, path, capsys):
    state = {key.replace("fc.", "linear."): value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    assert_same_weights(load(build(), path), trained)
    assert capsys.readouterr().err == "model.weights: the last layer is called linear there: taken for fc\n"
    assert_same_weights(load(build(num_classes=3, seed=2), path), trained_for_three := build(num_classes=3, seed=2), "")
    assert trained_for_three.fc.weight.shape == (3, 64)


@pytest.mark.parametrize(
    "extra", [{"linear.weight": 1.0, "linear.bias": 1.0, "scale": 1.0}, {"linear.weight": 1.0}, {"weight": 1.0}]
)
def test_what_is_no_head_of_another_name_is_told(trained, path, extra):
    state = {key: value for key, value in trained.state_dict().items() if not key.startswith("fc.")}
    torch.save({**state, **{key: torch.tensor([value]) for key, value in extra.items()}}, path)
    with pytest.raises(ConfigError, match="2 missing: fc.weight, fc.bias"):
        load(build(), path)


def test_where_a_new_head_is_of_no_use_none_is_made(trained, path):
    torch.save(trained.state_dict(), path)
    with pytest.raises(ConfigError, match=r"of another shape: fc.weight \(10×64, expected 3×64\), fc.bias"):
        load_weights(build(num_classes=3), str(path), {}, new_head=False)


# --- Published weights of networks of our own ---------------------------------------------------------------


@pytest.fixture
def publish(monkeypatch):
    """Has torchvision's server send these weights."""

    def publish(state: dict[str, torch.Tensor]) -> None:
        given = OrderedDict(state)
        given._metadata = getattr(state, "_metadata", None)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: given)

    return publish


def theirs(arch: str) -> nn.Module:
    torch.manual_seed(3)
    return models.get_model(arch, weights=None)


@pytest.mark.parametrize(
    "arch",
    ["resnet18", pytest.param("vgg11_bn", marks=pytest.mark.slow), "densenet121", "mobilenet_v2", "shufflenet_v2_x0_5"],
)
def test_torchvisions_are_found_by_the_same_name(publish, arch, capsys):
    published = theirs(arch)
    publish(published.state_dict())
    network = load(build(arch, num_classes=1000), "DEFAULT", arch)
    assert_same_weights(network, published)
    assert capsys.readouterr().err == ""
    assert set(find_published(arch, None)) >= {"DEFAULT", "IMAGENET1K_V1"}


def test_classes_and_channels_are_the_datasets(publish, capsys):
    published = theirs("resnet18")
    publish(published.state_dict())
    network = load(build("resnet18", num_classes=10, in_channels=1), "IMAGENET1K_V1", "resnet18")
    assert torch.equal(network.layer4[1].bn2.weight, published.layer4[1].bn2.weight)
    torch.testing.assert_close(network.conv1.weight, published.conv1.weight.sum(1, keepdim=True))
    assert network.fc.weight.shape == (10, 512) and capsys.readouterr().err.count("model.weights: ") == 2


def test_published_files_are_older_than_the_names_of_densenet(publish):
    published = theirs("densenet121")
    state = {key: value for key, value in published.state_dict().items() if not key.endswith("num_batches_tracked")}
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    publish(old)
    assert_same_weights(load(build("densenet121", num_classes=1000), "DEFAULT", "densenet121"), published)


def test_the_auxiliary_classifiers_of_googlenet_are_left_out(publish, path):
    torch.manual_seed(3)
    published = models.googlenet(weights=None, init_weights=False)
    publish(published.state_dict())
    torch.save(published.state_dict(), path)
    for source in ("DEFAULT", path):
        network = load(build("googlenet", num_classes=1000), source, "googlenet")
        published.aux1 = published.aux2 = None
        assert_same_weights(network, published)


@pytest.mark.parametrize("arch", ["mnasnet0_5", pytest.param("vit_b_32", marks=pytest.mark.slow)])
def test_networks_of_torchvision_that_tell_versions_of_their_names(publish, path, arch):
    published = theirs(arch)
    state = published.state_dict()
    if arch == "vit_b_32":  # whose files are older than the names in its code
        state = {key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): state[key] for key in state}
    publish(state)
    for source in ("DEFAULT", path):
        torch.save(published.state_dict(), path)
        network = build_from(MODELS, {"name": "torchvision", "arch": arch}, num_classes=1000, in_channels=3)
        load_weights(network, str(source), find_published("torchvision", arch))
        assert_same_weights(network, published)


def test_a_network_that_nobody_publishes_weights_of(trained):
    assert find_published("resnet20", None) == {}
    with pytest.raises(ConfigError, match="no file DEFAULT; expected a file of weights, a run, or one of null"):
        load(build(), "DEFAULT")


def test_a_head_for_other_classes_begins_as_init_says_and_the_rest_as_it_was_trained(tmp_path):
    given = ["model=mnist_cnn", "model.init=xavier"]
    source = start(small_config(tmp_path / "source", *given, "steps=3"), [])
    trained = load_checkpoint(source.find_weights())["model"]

    def begin(*more):
        config = small_config(tmp_path / "next", *given, "++dataset.label_map={9: null}", "seed=1", *more)
        return build_experiment(config, assemble(config)).training.model.state_dict()

    begun, untrained = begin(f"model.weights={source.path}"), begin()
    heads = [key for key, value in begun.items() if value.shape != trained[key].shape]
    assert [begun[key].shape[0] for key in heads] == [9, 9]
    for key, value in begun.items():
        assert torch.equal(value, (untrained if key in heads else trained)[key])
