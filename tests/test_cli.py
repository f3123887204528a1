from __future__ import annotations

import pytest
import yaml

from cnnlab import __version__
from cnnlab.cli import main
from cnnlab.composition import CONF, list_choices
from cnnlab.keys import read_comments
from cnnlab.runs.start import start
from tests.conftest import small_config


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    for command in ("train", "prepare", "resume", "evaluate", "predict", "reproduce", "inspect", "list"):
        assert f"\n    {command}" in out


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["evaluate"], ["inspect", "--jsn"], ["predict", "RUN", "--tta", "flp"]])
def test_mistyped_arguments_exit_2(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "told"), [(["trian"], "train"), (["list", "modles"], "models"), (["evalute", "RUN"], "evaluate")]
)
def test_mistyped_names_suggest_the_nearest(arguments, told, capsys):
    assert main(arguments) == 2
    assert f"did you mean {told}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["resume", "evaluate", "predict", "reproduce"])
def test_a_folder_that_is_no_run_exits_2(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    assert "no run here" in capsys.readouterr().err


def test_list_shows_what_can_be_chosen(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for line in ("models:", "  lenet ", "datasets:", "  digits ", "experiments:", "  mnist_cnn "):
        assert line in out
    assert main(["list", "losses"]) == 0
    assert capsys.readouterr().out.startswith("losses:\n  bce_with_logits")


def test_resume_evaluate_and_reproduce_a_run(tmp_path, capsys):
    run = start(small_config(tmp_path), [])
    assert main(["resume", str(run.path), "epochs=3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"run directory: {run.path}"
    assert len(run.read_metrics()) == 3
    assert main(["evaluate", str(run.path), "--part", "valid"]) == 0
    assert "on 144 valid images: loss" in capsys.readouterr().out
    assert main(["reproduce", str(run.path)]) == 0
    assert main(["reproduce", str(run.path), "seed=3"]) == 1


def test_a_checkpoint_that_is_truncated_exits_5(tmp_path, capsys):
    run = start(small_config(tmp_path), [])
    run.best.write_bytes(b"torn")
    assert main(["evaluate", str(run.path)]) == 5
    assert "best.pt: truncated" in capsys.readouterr().err


def test_train_help_explains_every_key(capsys):
    """The text is that of the comments in conf/, beside what the command would take."""
    assert main(["train", "-m", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    tree = yaml.safe_load((CONF / "train.yaml").read_text())
    comments = read_comments(CONF / "train.yaml")
    del tree["hydra"]
    groups = [group for entry in tree.pop("defaults")[1:] for group in entry if not group.startswith("override")]
    for group in groups:
        assert comments[f"defaults.{group}"] in shown
        for name in list_choices(group, [CONF]):
            assert name in shown
    for key, value in tree.items():
        for path in [f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key]:
            assert f" {path}=" in shown and comments[path], path
            assert comments[path] in shown, path
    for key, text in read_comments(CONF / "engine" / "default.yaml").items():
        assert f" engine.{key}=" in shown and text and text in shown
    assert " epochs=20 passes over the training images " in shown
    assert main(["train", "--help"]) == 0
    assert "sweep.trials" not in capsys.readouterr().out  # which stand beside -m only


def test_train_help_shows_what_a_command_would_take(capsys):
    assert main(["train", "-m", "experiment=cifar10_resnet18", "optimizer.lr=0.05", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "batch_size=256 images a step" in shown and "model=resnet18_cifar the network" in shown
    assert "optimizer.lr=0.05 the learning rate" in shown  # described once for all optimizers
    assert "dataset.root=??? folder of the data" in shown
    assert "sweep.trials=null how many configurations to draw" in shown
    assert main(["train", "model=lennet", "--help"]) == 2
    assert "did you mean lenet" in capsys.readouterr().err


def test_the_configuration_can_be_shown(cnnlab):
    job = cnnlab("train", "model=lenet", "--cfg", "job")
    assert job.returncode == 0 and "name: lenet" in job.stdout and "hydra:" not in job.stdout
