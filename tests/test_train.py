"""The command line as a user types it: composing, sweeping, mistakes, a user's own parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cnnlab.composition import CONF
from cnnlab.runs.directory import RunDirectory
from cnnlab.train import main
from tests.conftest import SMALL, only_run
from tests.runs.test_resume import assert_same_end


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """`cnnlab train ARGUMENTS` in this process: returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cnnlab"])

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_run_ends_naming_its_directory(train, tmp_path):
    code, out, _ = train(*SMALL)
    run = RunDirectory(only_run(tmp_path / "outputs"))
    assert code == 0
    assert out.splitlines()[-1] == f"run directory: {run.path.relative_to(tmp_path)}"
    assert yaml.safe_load(run.overrides.read_text()) == SMALL
    assert not list(tmp_path.glob("**/.hydra"))


def test_the_demo_reads_digits(train, tmp_path):
    """`make demo` as it is: at least 97 of 100 test digits right."""
    assert train()[0] == 0
    run = RunDirectory(only_run(tmp_path / "outputs"))
    assert run.read_json(run.summary)["test"]["accuracy"] >= 0.97


@pytest.mark.slow
def test_both_entry_points_are_one(cnnlab, tmp_path):
    assert cnnlab("train", *SMALL).returncode == 0
    command = [sys.executable, "-m", "cnnlab.train", *SMALL, "output_dir=other"]
    env = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=env)
    assert_same_end(RunDirectory(only_run(tmp_path / "outputs")), RunDirectory(only_run(tmp_path / "other")))


# --- Mistakes: exit 2, all at once, before anything is made ------------------------------------------------

MISTAKES = {
    "a key": (["optimzer.lr=0.1"], ["optimzer: no such key; did you mean optimizer?"]),
    "a key of a group": (["optimizer.learning_rate=1"], ["optimizer.learning_rate: no such key"]),
    "an added key": (["+model.widht=3"], ["model.widht: no such key"]),
    "an added key at the top": (["+epoch=3"], ["epoch: no such key; did you mean epochs"]),
    "a forced key": (["++engine.treads=3"], ["engine.treads: no such key; did you mean threads?"]),
    "a choice": (["model=lenett"], ["model: no 'lenett'; did you mean lenet"]),
    "a name": (["model.name=lenett"], ["model.name: no 'lenett'; did you mean lenet"]),
    "an experiment": (["experiment=mnist_cn"], ["experiment: no 'mnist_cn'; did you mean mnist_cnn or mnist_fast?"]),
    "an augmentation": (["augment.flipp.p=1"], ["augment.flipp: no 'flipp'; did you mean flip?"]),
    "a mix": (["+augment.mixpu.alpha=1"], ["augment.mixpu: no 'mixpu'; did you mean mixup?"]),
    "an argument of a mix": (["+augment.mixup.alpha=0"], ["augment.mixup.alpha: 0 was given; expected float above 0"]),
    "an initialisation": (["model.init=xavi"], ["model.init: no 'xavi'; did you mean xavier?"]),
    "an architecture": (["model=torchvision", "model.arch=resnet35"], ["model.arch: torchvision has no 'resnet35'"]),
    "a type": (["epochs=many"], ["epochs: 'many' was given; expected float above 0"]),
    "a negative rate": (["optimizer.lr=-0.1"], ["optimizer.lr: -0.1 was given; expected float above 0"]),
    "a share": (["split.valid=1.5"], ["split.valid: 1.5 was given; expected float at least 0 and below 1"]),
    "nothing left": (["split.test=1"], ["split.test: 1 was given; expected float at least 0 and below 1"]),
    "a duration": (["engine.log_every=5"], ["engine.log_every: 5 was given; expected a number above 0 and a unit"]),
    "a unit": (["engine.log_every=5 days"], ["engine.log_every: '5 days' was given; expected a number above 0"]),
    "a device": (["engine.device=abacus"], ["engine.device: 'abacus' was given; expected auto, cpu"]),
    "two lengths": (["steps=3", "examples=4"], ["steps, examples: both were given"]),
    "a whole batch in pieces": (
        ["engine.sync_batch_norm=true", "engine.micro_batch_size=8"],
        ["engine.sync_batch_norm, engine.micro_batch_size: both were given"],
    ),
    "one of several choices": (
        ["augment=[shfit,mixup]", "logger=[tensorbord]", "epochs=two"],
        ["augment: no 'shfit'; did you mean shift?", "logger: no 'tensorbord'", "epochs: 'two' was given"],
    ),
    "a folder of YAML": (["--config-dir", "nowhere"], ["--config-dir nowhere: is no folder"]),
    "an impossible size": (["model=lenet", "dataset.image_size=8"], ["'3' (Conv2d)", "size that works is 12"]),
    "two that exclude each other": (["optimizer=sgd", "optimizer.nesterov=true"], ["optimizer.nesterov: true was"]),
    "a value that is needed": (
        ["dataset=image_folder"],
        ["dataset.root: a value is needed: the folder with a sub-folder of pictures for each class"],
    ),
    "the folder of a recipe": (
        ["experiment=cifar10_resnet18"],
        ["the folder with train/, trainLabels.csv and test/ of https://www.kaggle.com/c/cifar-10; give dataset.root=…"],
    ),
    "a deleted key": (["~seed"], ["seed: missing; expected int at least 0"]),
    "a module": (["imports=[no_such_thing]"], ["imports: no_such_thing cannot be imported"]),
    "a group made a value": (["optimizer=3"], ["optimizer: no '3'"]),
    "no value": (["lenet"], ["lenet"]),
    "a bracket": (["epochs=[1"], ["[1"]),
    "an interpolation": (["name=${nothing}"], ["nothing"]),
    "several": (
        ["modle=lenet", "model=lenett", "batch_size=0", "+optimizer.foo=1", "optimizer.lr=fast", "loss=hinge"],
        ["modle: no such key", "no 'lenett'", "batch_size: 0", "optimizer.foo: no such key", "'fast'", "no 'hinge'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_made(train, tmp_path, mistake):
    arguments, told = MISTAKES[mistake]
    code, _, err = train(*arguments)
    assert code == 2
    assert err.startswith("cnnlab: ") and "Traceback" not in err
    for part in told:
        assert part in err
    assert not (tmp_path / "outputs").exists()


def test_mistakes_in_an_experiment_file_are_told_together(train, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text("# @package _global_\nepoch: 3\noptimizer: {lrr: 1, lr: -1}\n")
    code, _, err = train("--config-dir", str(tmp_path / "mine"), "experiment=odd")
    assert code == 2
    for part in ("epoch: no such key; did you mean epochs", "optimizer.lrr: no such key", "optimizer.lr: -1"):
        assert part in err
    (folder / "worse.yaml").write_text("# @package _global_\ndefaults:\n  - override /model: lenett\n")
    code, _, err = train("--config-dir", str(tmp_path / "mine"), "experiment=worse")
    assert code == 2 and "did you mean lenet" in err
    (folder / "broken.yaml").write_text("# @package _global_\na: [1\n")
    assert train("--config-dir", str(tmp_path / "mine"), "experiment=broken")[0] == 2


# --- Sweeps -------------------------------------------------------------------------------------------------


def test_multirun_gives_every_combination_the_result_it_has_alone(train, tmp_path):
    code, _, _ = train("-m", *SMALL, "epochs=1", "optimizer.lr=0.01,0.001", "seed=0,1", "output_dir=swept")
    assert code == 0
    runs = [RunDirectory(path.parent) for path in sorted(tmp_path.glob("swept/sweeps/*/trial_*/config.yaml"))]
    settings = [(run.read_config()["optimizer"]["lr"], run.read_config()["seed"]) for run in runs]
    assert sorted(settings) == [(0.001, 0), (0.001, 1), (0.01, 0), (0.01, 1)]
    assert train(*SMALL, "epochs=1", "optimizer.lr=0.001", "seed=1", "output_dir=alone", "engine.threads=1")[0] == 0
    assert_same_end(RunDirectory(only_run(tmp_path / "alone")), runs[settings.index((0.001, 1))])


def test_a_mistake_in_a_later_run_of_a_sweep_stops_the_first(train, tmp_path):
    code, _, err = train("-m", *SMALL, "optimizer.lr=0.01,-1", "model=mnist_cnn,lenett", "seed=0,zero")
    assert code == 2
    for part in ("optimizer.lr: -1 was given", "no 'lenett'", "seed: 'zero' was given"):
        assert part in err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("flag", ["-cd", "--config-dir"])
def test_values_of_flags_are_no_overrides(train, tmp_path, flag):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nbatch_size: -1\n")
    code, _, err = train("-m", flag, str(tmp_path / "mine"), "experiment=own", "seed=0,1")
    assert code == 2 and "batch_size: -1" in err
    code, _, err = train("-m", "--cfg", "job", "seed=0,1")  # which Hydra has one at a time
    assert code == 2 and "--cfg: shows one configuration; expected it without -m" in err


def test_a_failing_run_does_not_end_the_sweep(train, tmp_path):
    code, _, err = train("-m", *SMALL, "epochs=1", "optimizer=sgd", "optimizer.lr=1e30,0.01")
    assert code == 9 and "learning rate 1e+30" in err
    ends = [RunDirectory(path.parent) for path in tmp_path.glob("outputs/sweeps/*/trial_*/config.yaml")]
    assert sorted(run.read_json(run.summary)["status"] for run in ends) == ["completed", "failed"]


# --- Exit codes of what is not the configuration's fault -------------------------------------------------------


def test_missing_data_exit_3(train):
    code, _, err = train("dataset=mnist", "dataset.download=false")
    assert code == 3 and "train-images-idx3-ubyte" in err and "dataset.root=FOLDER" in err


def test_an_unwritable_place_exit_6(train, tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    code, _, err = train(*SMALL)
    assert code == 6 and "output_dir=FOLDER" in err


# --- A user's own model, dataset and files -------------------------------------------------------------------

PACKAGE = '''
import torch
from torch import nn
from cnnlab.data import DATASETS, Dataset, Facts, ImageSet
from cnnlab.models import MODELS
from cnnlab.signature import Count


@MODELS.register
def tiny(*, num_classes: int, in_channels: int, width: Count = 4) -> nn.Module:
    """A network of the user's own."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )


@DATASETS.register
def stripes(*, num: Count = 60) -> Dataset:
    """Horizontal or vertical."""

    def read(part: str) -> ImageSet:
        images = torch.zeros(num, 8, 8, 1, dtype=torch.uint8)
        images[: num // 2, ::2] = 255
        images[num // 2 :, :, ::2] = 255
        return ImageSet.of(images, (torch.arange(num) >= num // 2).long())

    return Dataset(Facts(("horizontal", "vertical"), channels=1, image_size=8), ("train",), read)
'''


@pytest.fixture
def own_parts(tmp_path) -> Path:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "parts.py").write_text(PACKAGE)
    for group, name, text in (
        ("model", "tiny", "name: tiny\nwidth: 4\n"),
        ("dataset", "stripes", "name: stripes\nnum: 60\n"),
        (
            "experiment",
            "mine",
            "# @package _global_\ndefaults:\n  - override /model: tiny\n  - override /dataset: stripes\n"
            "imports: [my_package.parts]\nepochs: 30\noptimizer: {lr: 0.05}\n",
        ),
    ):
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.slow  # quickly, by test_readme.py
def test_a_users_own_model_dataset_and_files_without_editing_cnnlab(cnnlab, own_parts):
    done = cnnlab("train", "--config-dir", "my_conf", "experiment=mine", "model.width=8")
    assert done.returncode == 0, done.stderr
    run = RunDirectory(only_run(own_parts / "outputs"))
    assert run.read_json(run.summary)["test"]["accuracy"] == 1.0
    assert cnnlab("reproduce", str(run.path)).returncode == 0
    assert cnnlab("evaluate", str(run.path)).returncode == 0
    listed = cnnlab("list", "models", "--import", "my_package.parts").stdout
    assert "tiny" in listed and "A network of the user's own." in listed


def test_a_users_own_parts_are_checked_as_ours_are(cnnlab, own_parts):
    done = cnnlab("train", "--config-dir", "my_conf", "experiment=mine", "model.width=0", "dataset.nmu=3")
    assert done.returncode == 2
    assert "model.width: 0 was given" in done.stderr and "dataset.nmu: no such key; did you mean num?" in done.stderr
