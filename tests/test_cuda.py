"""What a CUDA device computes beside what the CPU does, and that it is exact there as well.

Run by `make test-gpu`; without a CUDA device none of it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from cnnlab.cli import main
from cnnlab.composition import CONF
from cnnlab.data import AUGMENTS, CROPS
from cnnlab.data.store import Resident
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.compute import PLAIN
from cnnlab.engine.network import Network
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.predict import predict
from cnnlab.runs.reproduction import reproduce
from cnnlab.runs.start import resume, start
from tests.conftest import only_run, small_config
from tests.data.files import write_photographs

pytestmark = pytest.mark.gpu

ON_CUDA = "engine.device=cuda"
# Convolutions, batch normalisation, pooling, dropout, augmentations of every kind.
NETWORKS = {
    "mnist_cnn": ["model=mnist_cnn"],
    "resnet20": ["model=resnet20", "dataset.image_size=16", "steps=30"],
    "lenet": ["model=lenet", "dataset.image_size=28"],
    "vgg11_bn": ["model=vgg11_bn", "dataset.image_size=32", "steps=12"],
    "googlenet": ["model=googlenet", "dataset.image_size=32", "steps=12"],
    "densenet40_k12": ["model=densenet40_k12", "dataset.image_size=16", "steps=12"],
    "mobilenet_v2": ["model=mobilenet_v2", "dataset.image_size=32", "steps=12"],
}
EVERYTHING = [
    "augment=flip_crop_cutout",
    "augment.cutout.size=3",
    "+augment.mixup={alpha: 0.4}",
    "average=ema",
    "average.decay=0.8",
    "schedule=cosine",
    "optimizer.clip_norm=0.5",
]


def train(folder: Path, *overrides: str) -> RunDirectory:
    return start(small_config(folder, ON_CUDA, *overrides), [])


def rows(run: RunDirectory) -> list[dict]:
    timings = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in timings} for row in run.read_metrics()]


def assert_same_runs(one: RunDirectory, other: RunDirectory) -> None:
    assert rows(one) == rows(other)
    left, right = (load_checkpoint(run.last)["model"] for run in (one, other))
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize("extra", [[], EVERYTHING], ids=["plain", "everything"])
def test_a_run_on_cuda_has_the_curve_of_the_processor(tmp_path, extra):
    common = ["optimizer=sgd", "optimizer.lr=0.05", "batch_size=100", *extra]
    on_cpu = start(small_config(tmp_path / "cpu", *common), [])
    on_cuda = train(tmp_path / "cuda", *common)
    for ours, theirs in zip(rows(on_cpu), rows(on_cuda), strict=True):
        for column, value in ours.items():
            if value is not None:
                assert float(theirs[column]) == pytest.approx(float(value), rel=0.02, abs=0.01), column


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_repeats_bit_for_bit(tmp_path, name):
    run = train(tmp_path, *NETWORKS[name], *EVERYTHING[:2])
    assert reproduce(str(run.path), []) is True


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_run_goes_on_bit_for_bit_from_inside_an_epoch(tmp_path, precision):
    common = [*NETWORKS["resnet20"], *EVERYTHING, f"engine.precision={precision}", "engine.checkpoint_every=7 steps"]
    whole = train(tmp_path / "whole", *common, "steps=30", "schedule=constant")
    begun = train(tmp_path / "begun", *common, "steps=17", "schedule=constant")
    resume(str(begun.path), ["steps=30"])
    assert_same_runs(begun, whole)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_runs_learn_and_repeat(tmp_path, mode):
    run = train(tmp_path, *NETWORKS["mnist_cnn"], f"engine.compile={mode}", "epochs=3")
    summary = run.read_json(run.summary)
    assert "compiling failed" not in run.log.read_text()
    assert summary["compute"]["compile"] == mode
    assert float(rows(run)[-1]["train_loss"]) < float(rows(run)[0]["train_loss"])
    assert reproduce(str(run.path), []) is True


@pytest.mark.parametrize("name", NETWORKS)
def test_recorded_steps_have_the_bits_of_those_launched_one_by_one(tmp_path, name):
    common = [*NETWORKS[name], *EVERYTHING]
    plain = train(tmp_path / "plain", *common, "engine.compile=off")
    recorded = train(tmp_path / "recorded", *common, "engine.compile=graphs")
    assert "failed" not in recorded.log.read_text()
    assert_same_runs(recorded, plain)


@pytest.mark.parametrize(
    "extra",
    [
        ["++model.freeze_after={conv1: 5 steps, layer1: 9 steps}"],
        ["learn_hardest=0.5"],
        ["average=lookahead", "engine.precision=bf16"],
        ["optimizer=muon", "optimizer.lr=0.02", "optimizer.normalize=true"],
    ],
    ids=["freeze", "hardest", "lookahead", "muon"],
)
def test_recorded_steps_follow_what_changes(tmp_path, extra):
    common = [*NETWORKS["resnet20"], *extra]
    plain = train(tmp_path / "plain", *common, "engine.compile=off")
    recorded = train(tmp_path / "recorded", *common, "engine.compile=graphs")
    assert "failed" not in recorded.log.read_text()
    assert_same_runs(recorded, plain)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_recorded_run_goes_on_bit_for_bit(tmp_path, precision):
    common = [*NETWORKS["mnist_cnn"], *EVERYTHING, f"engine.precision={precision}", "engine.compile=graphs"]
    common += ["engine.checkpoint_every=7 steps", "schedule=constant"]
    whole = train(tmp_path / "whole", *common, "steps=30")
    begun = train(tmp_path / "begun", *common, "steps=17")
    resume(str(begun.path), ["steps=30"])
    assert_same_runs(begun, whole)


def test_auto_measures_and_chooses(tmp_path, monkeypatch):
    from cnnlab.engine import autotune

    for name, value in {"QUICK": 0.0, "SHORT": 0.0, "MAX_SHARE": 100.0, "TURN": 0.0}.items():
        monkeypatch.setattr(autotune, name, value)
    run = train(tmp_path, *NETWORKS["resnet20"], "batch_size=256", "dataset.image_size=32")
    assert run.read_json(run.summary)["compute"]["timings"]
    print(json.dumps(run.read_json(run.summary)["compute"], indent=1))


def test_batches_are_halved_where_memory_runs_out(tmp_path):
    """In a process of its own, which may have a small part of the device."""
    code = f"""
import torch
torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.mem_get_info()[1])
from cnnlab.cli import main
main(["train", "model=resnet18_cifar", "dataset.image_size=64", "batch_size=1000", "steps=2", "engine.device=cuda",
      "engine.eval_batch_size=20", "output_dir={tmp_path}"])
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CONF.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=180)
    assert "memory ran out: batches are cut into micro-batches of" in done.stdout, done.stdout + done.stderr
    assert RunDirectory(only_run(tmp_path)).read_json(only_run(tmp_path) / "summary.json")["status"] == "completed"


def test_one_process_under_torchrun_uses_nccl(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    arguments = ["-m", "cnnlab.train", "dataset.image_size=12", "epochs=1", f"output_dir={tmp_path}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CONF.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "on cuda" in done.stdout


@dataclass(frozen=True)
class DrawnOn:
    """The same numbers on each device."""

    device: str
    epoch: int = 1

    def __call__(self, num_values: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(num_values)
        return torch.rand(40, num_values, generator=generator).to(self.device)

    once = __call__


@pytest.mark.parametrize("name", sorted(AUGMENTS))
def test_augmentations_are_those_of_the_processor(name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8, generator=generator)

    expected = AUGMENTS[name](images, DrawnOn("cpu"))
    found = AUGMENTS[name](images.cuda(), DrawnOn("cuda")).cpu()
    difference = (found.int() - expected.int()).abs()
    assert (difference > 1).float().mean() < 0.005  # where rounding decides which pixel is taken


def test_crops_are_those_of_the_processor():
    generator = torch.Generator().manual_seed(0)
    images = Resident(torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=generator))
    indices = torch.arange(40)
    for name in CROPS:
        boxes = CROPS[name](images.sizes(indices), partial(torch.rand, 40, generator=generator))
        expected = images.cut(indices, boxes)
        found = images.to(torch.device("cuda")).cut(indices.cuda(), boxes.cuda()).cpu()
        assert (found.int() - expected.int()).abs().max() <= 1


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 60, 50, 40)
    return folder


def test_photographs_train_evaluate_and_predict(tmp_path, photographs):
    data = ["dataset=image_folder", f"dataset.root={photographs}", "dataset.image_size=24", "dataset.resize=32"]
    run = train(tmp_path, *data, "model=resnet20", "augment=resized_crop", "batch_size=16", "epochs=2")
    test = run.read_json(run.summary)["test"]
    assert evaluate_run(str(run.path))["loss"] == pytest.approx(test["loss"], rel=1e-6)
    on_cuda = predict([str(run.path)], part="test", output=str(tmp_path / "cuda.csv"))
    assert on_cuda[0].read_text().count("\n") == 1 + 12
    pictures = predict([str(run.path)], images=str(photographs), output=str(tmp_path / "all.csv"))
    assert pictures[0].read_text().count("\n") == 1 + 60


def test_kept_features_give_what_looking_anew_gives(tmp_path):
    common = ["model=resnet20", "model.freeze=backbone", "epochs=3"]
    kept = train(tmp_path / "kept", *common)
    anew = train(tmp_path / "anew", *common, "model.feature_views=0")
    for ours, theirs in zip(rows(kept), rows(anew), strict=True):
        assert float(ours["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "--json"],
        ["lesson", "gpu"],
        ["find-lr", "dataset.image_size=12", "engine.device=cuda"],
        ["inspect", "model=resnet18", "dataset=cifar10"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "rmsprop", "adagrad", "schedule_free_adamw"])
def test_optimizers_step_on_cuda_as_on_the_processor(tmp_path, optimizer):
    common = [f"optimizer={optimizer}", "optimizer.lr=0.01", "steps=12", "batch_size=200"]
    on_cpu = start(small_config(tmp_path / "cpu", *common), [])
    on_cuda = train(tmp_path / "cuda", *common)
    assert float(rows(on_cuda)[-1]["train_loss"]) == pytest.approx(float(rows(on_cpu)[-1]["train_loss"]), rel=0.05)


def test_networks_that_predict_together_compute_each_in_its_own_numbers():
    """TF32 is a switch of the whole device: it is set for each pass."""
    device = torch.device("cuda")
    network = Network(torch.nn.Linear(512, 512).to(device), device)
    images = torch.randn(256, 512, device=device)
    exact, coarse = network(images), replace(network, compute=replace(PLAIN, precision="tf32"))
    rounded = coarse(images)
    assert not torch.equal(exact, rounded)
    assert torch.equal(network(images), exact) and torch.equal(coarse(images), rounded)
