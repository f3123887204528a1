"""A run computes as it has chosen to: resumed, repeated and evaluated."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from cnnlab import config
from cnnlab.config import parse
from cnnlab.engine import autotune
from cnnlab.engine.autotune import Tuning
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.compute import PLAIN, Compute
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.models.summary import count_training_work, summarize
from cnnlab.runs import summary, training
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.reproduction import reproduce
from cnnlab.runs.start import resume, start
from tests.conftest import compose_tree, small_config
from tests.runs.test_resume import assert_same, assert_same_end

TIMINGS = {"fp32, channels_last": 100.0, "bf16, contiguous": 200.0}


@pytest.fixture
def measured(monkeypatch) -> list[dict]:
    """`auto` takes bfloat16 in contiguous memory; returns what was asked, each time something was to be measured."""
    asked: list[dict] = []
    tune = training.tune

    def measure(experiment, wanted, num_steps, size, say):
        if "auto" not in asdict(wanted).values():
            return tune(experiment, wanted, num_steps, size, say)
        asked.append(wanted)
        return Tuning(wanted.fill(Compute("bf16", "contiguous", "off", None, "direct")), TIMINGS)

    monkeypatch.setattr(training, "tune", measure)
    return asked


def summary_of(run) -> dict:
    return run.read_json(run.summary)


def test_the_choice_is_told_and_repeated_by_those_who_go_on_and_by_those_who_repeat(tmp_path, measured, capsys):
    whole = start(small_config(tmp_path / "whole", "epochs=3"), [])
    assert summary_of(whole)["compute"] == {
        "precision": "bf16", "memory_format": "contiguous", "compile": "off", "threads": None, "convolution": "direct",
        "timings": TIMINGS,
    }  # fmt: skip
    assert "computing in bf16, contiguous (images/s by measurement: fp32, channels_last: 100;" in whole.log.read_text()
    assert whole.read_config()["engine"]["precision"] == "auto"

    run = start(small_config(tmp_path / "short"), [])
    assert len(measured) == 2
    resume(str(run.path), ["epochs=3"])
    assert_same_end(run, whole)
    assert reproduce(str(whole.path), []) is True
    assert len(measured) == 2
    assert summary_of(run)["compute"] == summary_of(whole)["compute"]


def test_a_run_killed_before_its_first_checkpoint_repeats_the_choice(tmp_path, measured, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", die)
        with pytest.raises(KeyboardInterrupt):
            start(small_config(tmp_path), [])
    (path,) = tmp_path.glob("*/*")
    resume(str(path), [])
    assert len(measured) == 1


def test_another_precision_may_be_given_to_those_who_go_on(tmp_path, measured):
    run = start(small_config(tmp_path), [])
    resume(str(run.path), ["epochs=3", "engine.precision=fp32"])
    assert summary_of(run)["compute"] | {"timings": {}} == {
        "precision": "fp32", "memory_format": "contiguous", "compile": "off", "threads": None, "convolution": "direct",
        "timings": {},
    }  # fmt: skip
    assert len(measured) == 1


def test_an_evaluation_computes_as_the_run_did(tmp_path, measured):
    run = start(small_config(tmp_path), [])
    evaluation = evaluate_run(str(run.path))
    assert {key: evaluation[key] for key in ("loss", "accuracy", "log_loss")} == summary_of(run)["test"]
    run.write_json(run.summary, summary_of(run) | {"compute": {"precision": "fp32"}})
    assert evaluate_run(str(run.path))["loss"] != evaluation["loss"]


def test_auto_in_a_short_run_equals_what_it_stands_for(tmp_path):
    auto = start(small_config(tmp_path / "auto"), [])
    given = [f"engine.{key}={'null' if value is None else value}" for key, value in vars(PLAIN).items()]
    plain = start(small_config(tmp_path / "plain", *given), [])
    assert_same_end(auto, plain)
    assert summary_of(auto)["compute"] == vars(PLAIN) | {"timings": {}}


def test_measuring_changes_no_bit_of_the_run(tmp_path, monkeypatch):
    """A lead that nothing has: every way is timed, and the plain one is taken."""
    plain = start(small_config(tmp_path / "plain", "model=residual_net", "dataset.image_size=28"), [])
    for name, value in {"SHORT": 0.0, "QUICK": 0.0, "MAX_SHARE": 100.0, "MARGIN": 1.0, "TURN": 0.0}.items():
        monkeypatch.setattr(autotune, name, value)
    measured = start(small_config(tmp_path / "auto", "model=residual_net", "dataset.image_size=28"), [])
    assert len(summary_of(measured)["compute"]["timings"]) >= 2
    assert_same_end(measured, plain)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_exact_resume(tmp_path, precision):
    given = [f"engine.precision={precision}", "optimizer=adam", "optimizer.clip_norm=1"]
    whole = start(small_config(tmp_path / "whole", *given, "epochs=3"), [])
    run = start(small_config(tmp_path / "short", *given, "steps=30"), [])
    resume(str(run.path), ["steps=null", "epochs=3"])
    for name in ("model", "optimizer", "scaler"):
        left, right = (load_checkpoint(path).get(name) for path in (run.last, whole.last))
        assert_same(left, right)
    assert ("scaler" in load_checkpoint(run.last)) == (precision == "fp16")
    assert summary_of(run)["test"] == summary_of(whole)["test"]
    assert summary_of(run)["test"]["accuracy"] > 0.5


def test_convolutions_with_fewer_products(tmp_path):
    """Learn the same, to rounding; resume and are evaluated to the bit."""
    given = ["model=whitened_cnn", "optimizer.lr=0.01"]
    fewer = [*given, "engine.convolution=winograd"]
    direct = start(small_config(tmp_path / "direct", *given), [])
    whole = start(small_config(tmp_path / "whole", *fewer, "epochs=2"), [])
    run = start(small_config(tmp_path / "short", *fewer, "epochs=1"), [])
    resume(str(run.path), ["epochs=2"])
    assert_same_end(run, whole)
    assert summary_of(run)["compute"]["convolution"] == "winograd"
    assert summary_of(direct)["compute"]["convolution"] == "direct"
    (first, *_), (expected, *_) = whole.read_metrics(), direct.read_metrics()
    assert first["train_loss"] != expected["train_loss"]
    assert first["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)
    evaluation = evaluate_run(str(whole.path))
    assert {key: evaluation[key] for key in ("loss", "accuracy", "log_loss")} == summary_of(whole)["test"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("engine.precision=bf16", "engine.convolution, engine.precision: winograd and bf16 were given; expected fp32"),
        ("engine.memory_format=contiguous", "engine.memory_format: winograd and contiguous were given"),
        ("engine.compile=default", "engine.compile: winograd and default were given; expected off"),
    ],
)
def test_fewer_products_are_for_fp32(other, told):
    with pytest.raises(ConfigError, match=told):
        parse(compose_tree("engine.convolution=winograd", other))


def test_fewer_products_decide_what_they_go_with():
    assert parse(compose_tree("engine.convolution=winograd")).compute == replace(
        PLAIN, threads="auto", convolution="winograd"
    )
    with pytest.raises(ConfigError, match="engine.convolution: winograd was given; expected auto or direct beside opt"):
        parse(compose_tree("engine.convolution=winograd", "optimizer=lbfgs"))


def test_fewer_products_are_for_a_cpu(monkeypatch):
    monkeypatch.setattr(config, "choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(ConfigError, match="engine.convolution: winograd was given; expected auto or direct: cuda"):
        parse(compose_tree("engine.convolution=winograd"))


def test_a_network_that_cannot_be_compiled_is_trained_without(tmp_path, monkeypatch, capsys):
    from tests.engine.test_autotune import break_compiler

    break_compiler(monkeypatch)
    run = start(small_config(tmp_path / "compiled", "engine.compile=default"), [])
    assert "compiling failed, and the run goes on without it" in capsys.readouterr().out
    assert summary_of(run)["compute"]["compile"] == "off"
    assert_same_end(run, start(small_config(tmp_path / "plain"), []))


def test_what_the_device_cannot_do_is_told_with_all_else():
    with pytest.raises(ConfigError) as error:
        parse(
            compose_tree(
                "engine.device=cpu",
                "engine.precision=tf32",
                "engine.compile=reduce-overhead",
                "epochs=-1",
                "engine.micro_batch_size=3",
            )  # fmt: skip
        )
    told = str(error.value)
    assert "4 problems" in told and "engine.precision: tf32" in told and "no CUDA graphs" in told and "epochs" in told
    with pytest.raises(ConfigError, match="fp16 was given; expected another one beside optimizer lbfgs"):
        parse(compose_tree("optimizer=lbfgs", "engine.precision=fp16"))


def test_many_processes_record_no_graphs(monkeypatch):
    """One that fails would leave the others waiting."""
    monkeypatch.setattr(config, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(config, "num_processes", lambda: 2)
    with pytest.raises(ConfigError, match="engine.compile: graphs was given to many processes"):
        parse(compose_tree("engine.compile=graphs"))
    monkeypatch.setattr(config, "num_processes", lambda: 1)
    assert parse(compose_tree("engine.compile=graphs")).engine.compile == "graphs"


def test_off_is_off_however_yaml_reads_it():
    tree = compose_tree()
    tree["engine"]["compile"] = False
    assert parse(tree).engine.compile == "off"
    assert parse(compose_tree("engine.compile=off")).engine.compile == "off"


def test_speed_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "LONG_BESIDE_PEAK", 0.0)
    run = start(small_config(tmp_path), [])
    speed = summary_of(run)["speed"]
    # 5×5 convolution 1 → 10 on 12×12, then 3×3 of 10 → 20 on 4×4 and 20 → 20 on 2×2, then 20 → 16 → 10.
    first = 8 * 8 * 10 * 25
    per_image = first + 4 * 4 * 20 * 90 + 2 * 2 * 20 * 180 + 20 * 16 + 16 * 10
    images_per_second = 2 * 1294 / (42 * sum(speed["step_milliseconds"].values()) / 1000)
    assert speed["images_per_second"] == pytest.approx(images_per_second, rel=0.01, abs=0.1)
    assert speed["multiply_adds_per_second"] == pytest.approx(
        (3 * per_image - first) * images_per_second, rel=0.01
    )  # nobody asks for the gradient of the images
    assert 0 < speed["share_of_peak"] < 1
    assert set(speed["step_milliseconds"]) == {"data", "forward", "backward", "optimizer"}
    fewer = start(small_config(tmp_path, "engine.convolution=winograd"), [])
    speed = summary_of(fewer)["speed"]
    assert speed["multiply_adds_per_second"] > 0 and speed["share_of_peak"] is None


def test_the_work_of_images_that_grow_is_the_mean_of_their_epochs(tmp_path):
    given = ("model=resnet20", "dataset.image_size=16", "epochs=40", "augment=small_at_first")
    sizes = ("augment.small_at_first.sizes=[8,12]", "augment.small_at_first.epochs=[1,2]")
    configuration = small_config(tmp_path, *given, *sizes)
    training = build_experiment(configuration, assemble(configuration)).training
    work = {size: count_training_work(training.model, torch.zeros(1, 1, size, size)) for size in (8, 12, 16)}
    steps = len(training.train)
    assert work[8] < work[12] < work[16]
    assert summary.count_work(training, 0, 4 * steps) == (work[8] + 2 * work[12] + work[16]) / 4
    assert summary.count_work(training, steps, 2 * steps) == work[12]
    assert work[16] * 0.9 < summary.count_work(training, 0, 40 * steps) < work[16]  # of every second epoch
    # Where a share is learned from, all are looked at: with one forward pass, as the network's summary counts it.
    looked_at = summarize(training.model, 1, 12).multiply_adds
    hardest = summary.count_work(replace(training, learn_hardest=0.25), steps, 2 * steps)
    assert hardest == pytest.approx(looked_at + work[12] / 4, abs=1)
