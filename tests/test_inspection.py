"""`cnnlab inspect`: what it prints, for readers and for programs, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from cnnlab import inspection
from cnnlab.cli import main
from cnnlab.models import MODELS
from cnnlab.optim import OPTIMIZERS
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from cnnlab.signature import as_yaml
from tests.conftest import small_config


@pytest.fixture
def inspect(capsys, tmp_path, monkeypatch):
    """`cnnlab inspect ARGUMENTS` in an empty folder: returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["inspect", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


LENET = """\
lenet on fashion_mnist: images of 1×28×28, 10 classes

layer  kind       output      parameters  multiply-adds  receptive field
0      Conv2d     N×6×28×28          156        117,600                5
1      Sigmoid    N×6×28×28            0              0                5
2      AvgPool2d  N×6×14×14            0              0                6
3      Conv2d     N×16×10×10       2,416        240,000               14
4      Sigmoid    N×16×10×10           0              0               14
5      AvgPool2d  N×16×5×5             0              0               16
6      Flatten    N×400                0              0
7      Linear     N×120           48,120         48,000
8      Sigmoid    N×120                0              0
9      Linear     N×84            10,164         10,080
10     Sigmoid    N×84                 0              0
11     Linear     N×10               850            840
total                             61,706        416,520
"""


def test_the_table_of_lenet_without_data_on_disk(inspect):
    code, out, err = inspect("model=lenet", "dataset=fashion_mnist", "dataset.root=nowhere", "dataset.download=false")
    assert code == 0 and err == ""
    assert out.startswith(LENET)


def test_memory_adds_up(inspect):
    facts = ["model=lenet", "dataset=mnist", "optimizer=sgd", "optimizer.momentum=0.9"]
    one = json.loads(inspect(*facts, "batch_size=1", "--json")[1])["memory_bytes"]
    many = json.loads(inspect(*facts, "batch_size=50", "--json")[1])["memory_bytes"]
    assert one["weights"] == one["gradients"] == one["optimizer"] == 4 * 61_706
    assert many == one | {"activations": 50 * one["activations"], "total": 3 * 4 * 61_706 + 50 * one["activations"]}
    assert "memory for a batch of 50: " in inspect(*facts, "batch_size=50")[1]


@pytest.mark.parametrize("optimizer, per_parameter", [("sgd", 0), ("adam", 8), ("adamw", 8)])
def test_state_of_the_optimizers(inspect, optimizer, per_parameter):
    memory = json.loads(inspect("model=linear", f"optimizer={optimizer}", "--json")[1])["memory_bytes"]
    counters = 2 * 4 if per_parameter else 0  # Adam counts the steps of each tensor
    assert memory["optimizer"] == per_parameter * 7850 + counters


def test_an_optimizer_that_wants_the_loss_is_not_known(inspect, monkeypatch):
    def sgd(params, *, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(params)

    monkeypatch.setitem(OPTIMIZERS._builders, "sgd", sgd)
    code, out, _ = inspect("model=linear", "optimizer=sgd")
    assert code == 0 and "not known" in out


def test_json_for_programs(inspect):
    code, out, _ = inspect("--json", "model=mnist_cnn", "dataset=cifar10")
    shown = json.loads(out)
    assert code == 0
    assert shown["model"]["name"] == "mnist_cnn" and shown["image"] == [3, 32, 32]
    assert shown["parameters"] == sum(layer["parameters"] for layer in shown["layers"])
    assert shown["multiply_adds"] == sum(layer["multiply_adds"] for layer in shown["layers"])
    assert shown["layers"][0] == {
        "name": "0",
        "kind": "Conv2d",
        "in_shape": [3, 32, 32],
        "out_shape": [10, 28, 28],
        "parameters": 760,
        "multiply_adds": 588_000,
        "receptive_field": [5, 5],
    }
    assert shown["failure"] is None


def test_where_1568_comes_from(inspect):
    network = ["model=residual_net", "model.padding=2", "model.in_features=512", "dataset=mnist"]
    code, out, err = inspect(*network)
    assert code == 2
    lines = [line.split() for line in out.splitlines()]
    assert ["6", "MaxPool2d", "N×32×7×7"] in [line[:3] for line in lines]
    assert ["8", "Flatten", "N×1568"] in [line[:3] for line in lines]
    assert ["9", "Linear", "fails", "on", "N×1568"] in [line[:5] for line in lines]
    assert "layer '9' (Linear), which is given 1568 = 32·7·7; it has 512 inputs" in err
    assert "Traceback" not in err and "memory" not in out
    code, out, _ = inspect(*network, "--json")
    shown = json.loads(out)
    assert code == 2 and "512" in shown["failure"] and shown["memory_bytes"] is None
    assert shown["layers"][-1]["in_shape"] == [1568] and shown["layers"][-1]["out_shape"] is None


def test_weights_are_not_asked_for(inspect):
    backbone = ["model=torchvision", "model.arch=resnet18", "model.weights=nowhere.pth"]
    assert inspect(*backbone, "dataset.image_size=32")[0] == 0


# --- Mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["model=lenett"], 2, "model: no 'lenett'; did you mean lenet"),
        (["model=lenet", "batch_sise=3", "optimizer.lr=fast"], 2, "batch_sise: no such key"),
        (["model=lenet", "dataset.image_size=8"], 2, "the smallest image size that works is 12"),
        (["dataset=image_folder"], 2, "dataset.root: a value is needed"),
        (["dataset=image_folder", "dataset.root=nowhere"], 3, "no folder nowhere"),
        (["optimizer=sgd", "optimizer.nesterov=true"], 2, "optimizer.nesterov: true was given beside momentum 0"),
        (["lenet"], 2, "lenet: no run here"),
        (["model=lenet", "--image", "x.png"], 2, "--image: is for --plot"),
        (["dataset=line", "--plot"], 2, "dataset line has no pictures"),
        (["augment=shfit", "--plot"], 2, "augment: no 'shfit'; did you mean shift"),
        (["--plot"], 2, "expected a run, to draw what it has learned: cnnlab inspect RUN --plot"),
        (["nowhere", "--plot"], 2, "nowhere: no run here"),
        (["schedule=cosin", "--plot"], 2, "schedule: no 'cosin'; did you mean cosine"),
        (["schedule=cosine", "schedule.warmup=soon", "--plot"], 2, "schedule.warmup: 'soon' was given"),
        (["schedule=reduce_on_plateau", "--plot"], 2, "depends on what is measured during the run"),
        (["schedule=cosine", "--plot", "--examples", "0"], 2, "--examples 0: expected at least one"),
        (["schedule=cosine", "dataset=mnist", "dataset.download=false", "--plot"], 3, "train-images-idx3-ubyte"),
    ],
)
def test_mistakes_are_told(inspect, arguments, code, told):
    ended, _, err = inspect(*arguments)
    assert ended == code
    assert told in err and err.startswith("cnnlab: ")


# --- Schedules ----------------------------------------------------------------------------------------------


@pytest.fixture
def curves(monkeypatch):
    """What is drawn: the steps and the rates of each curve."""
    drawn = {}
    draw_rates = inspection.draw_rates
    monkeypatch.setattr(inspection, "draw_rates", lambda given, path: (drawn.update(given), draw_rates(given, path)))
    return drawn


def test_the_curve_is_that_of_the_run(inspect, curves, tmp_path):
    """The rate of each epoch's last step stands in metrics.csv."""
    wanted = ["schedule=cosine", "schedule.warmup=30 steps", "optimizer.scale_to_batch=32", "epochs=3"]
    code, out, err = inspect("--plot", *wanted, "dataset.image_size=12")
    assert code == 0, err
    assert out.splitlines()[-1] == "schedule.png" and (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")
    rows = start(small_config(tmp_path, *wanted), []).read_metrics()
    steps, rates = curves["cosine"]
    assert steps[:-1] == list(range(3 * 21))
    assert [float(row["lr"]) for row in rows] == [rates[int(row["step"]) - 1] for row in rows]
    assert max(rates) == pytest.approx(0.006, rel=1e-3)


def test_several_schedules_and_the_rates_of_parts_in_one_picture_without_images(inspect, curves, tmp_path):
    told = ["model=lenet", "dataset=mnist", "dataset.root=nowhere", "dataset.download=false", "batch_size=10"]
    told += ["schedule=linear,step", "epochs=40", "optimizer=sgd", "optimizer.lr=0.5", "optimizer.rates={0: 0.1}"]
    code, _, err = inspect(*told, "--plot", "--examples", "10001", "--output", "some/rates.png")
    assert code == 0, err
    assert (tmp_path / "some" / "rates.png").is_file()
    assert list(curves) == [f"schedule={name}, lr {lr}" for name in ("linear", "step") for lr in ("0.5", "0.05")]
    steps, rates = curves["schedule=linear, lr 0.05"]
    assert len(steps) <= 10_001 and steps[-1] == 40 * 1001 - 1
    assert rates == pytest.approx([0.05 * (1 - step / 40_040) for step in steps])
    steps, rates = curves["schedule=step, lr 0.5"]
    assert rates == pytest.approx([0.5 * 0.1 ** (step // 10_010) for step in steps])


# --- The user's own, and runs -----------------------------------------------------------------------------


def test_a_users_own_configuration_and_model(inspect, tmp_path, monkeypatch):
    (tmp_path / "my_inspected.py").write_text(
        "from torch import nn\n"
        "from cnnlab.models import MODELS\n"
        "@MODELS.register\n"
        "def inspected(*, num_classes: int, in_channels: int) -> nn.Module:\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 28), nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MODELS, "_builders", dict(MODELS._builders))  # what is registered here is forgotten again
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "inspected.yaml").write_text("name: inspected\n")
    code, out, _ = inspect("--config-dir", "mine", "model=inspected", "imports=[my_inspected]")
    assert code == 0 and "N×10×1×1" in out and "7,850" in out


def test_a_run_is_inspected_as_it_was_configured(inspect, tmp_path):
    run = RunDirectory.claim(tmp_path / "some", as_yaml(small_config(tmp_path)), [])
    code, out, _ = inspect(str(run.path))
    assert code == 0 and out.startswith("mnist_cnn on digits: images of 1×12×12")
    assert inspect(str(run.path), "dataset.image_size=16")[1].startswith("mnist_cnn on digits: images of 1×16×16")


def test_a_run_without_a_first_convolution_has_no_pictures(inspect, tmp_path):
    run = start(small_config(tmp_path, "model=linear", "epochs=1"), [])
    code, _, err = inspect(str(run.path), "--plot")
    assert code == 2 and "linear, has no convolution" in err


def test_a_run_whose_path_begins_with_schedule_is_a_run(inspect, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start(small_config(tmp_path / "schedules", "epochs=1"), [])
    code, out, err = inspect(str(run.path.relative_to(tmp_path)), "--plot")
    assert code == 0 and "kernels.png" in out, err
