"""Runs with frozen parts, kept features and classes of different sizes, as configured."""

from __future__ import annotations

import json

import pytest
import torch

from cnnlab.cli import main
from cnnlab.engine.checkpoint import load_checkpoint
from cnnlab.engine.state import State
from cnnlab.engine.step import compute_gradients
from cnnlab.errors import ConfigError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.models.freezing import OnFeatures
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.reproduction import reproduce
from cnnlab.runs.start import resume, start
from tests.conftest import small_config
from tests.runs.test_resume import assert_same, assert_same_end, metrics

NETWORK = ["model=resnet20", "batch_size=128", "optimizer=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9"]


def config(folder, *overrides: str):
    return small_config(folder, *NETWORK, *overrides)


def weights(run, which: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(getattr(run, which))["model"]


def initial(configuration) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in assemble(configuration).network.model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


# --- Frozen parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [0, 1])
def test_of_a_frozen_backbone_only_the_head_learns(tmp_path, views):
    """Nothing else changes, running statistics included, and nothing else has a gradient or a state."""
    overrides = ["model.freeze=backbone", "model.head=[16]", f"model.feature_views={views}", "epochs=1"]
    configuration = config(tmp_path, *overrides)
    run = start(configuration, [])
    head = {"fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"}
    assert changed(initial(configuration), weights(run)) == head
    assert len(load_checkpoint(run.last)["optimizer"]["state"]) == len(head)
    assert run.read_json(run.summary)["parameters"] == 64 * 16 + 16 + 16 * 10 + 10


def test_named_parts_keep_weights_and_statistics_and_the_others_learn(tmp_path):
    configuration = config(tmp_path, "model.freeze=[conv1,bn1,layer1]", "steps=3")
    before, after = initial(configuration), weights(start(configuration, []))
    frozen = {key for key in before if key.split(".")[0] in {"conv1", "bn1", "layer1"}}
    assert changed(before, after) == before.keys() - frozen
    assert any(key.endswith("running_mean") for key in frozen)


def test_unfrozen_after_a_while_all_learns(tmp_path):
    """Until then it is the run with a backbone that stays frozen, of which features are not kept."""
    overrides = ["model.freeze=backbone", "engine.checkpoint_every=1 step"]
    later = config(tmp_path / "later", *overrides, "model.unfreeze_after=4 steps", "steps=5")
    never = start(config(tmp_path / "never", *overrides, "model.feature_views=0", "steps=4"), [])
    run = start(later, [])
    before_it = load_checkpoint(run.previous)
    assert before_it["state"]["step"] == 4
    assert_same(before_it["model"], weights(never))
    assert len(before_it["optimizer"]["state"]) == 2
    names = dict(assemble(later).network.model.named_parameters()).keys()
    assert changed(before_it["model"], weights(run)) >= names
    assert len(load_checkpoint(run.last)["optimizer"]["state"]) == len(names)


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_unfreezing_resumes_exactly(tmp_path, stop):
    overrides = ["model.freeze=backbone", "model.unfreeze_after=4 steps", "augment=shift", "++optimizer.rates.fc=2"]
    whole = start(config(tmp_path / "whole", *overrides, "steps=8"), [])
    run = start(config(tmp_path / "stopped", *overrides, f"steps={stop}"), [])
    resume(str(run.path), ["steps=8"])
    assert metrics(run) == metrics(whole)
    for part in ("model", "optimizer"):
        assert_same(load_checkpoint(run.last)[part], load_checkpoint(whole.last)[part])


def test_rates_of_what_was_frozen_rise_from_nothing_and_its_statistics_stay(tmp_path):
    """Over as many steps as it was frozen; the head's rate is the schedule's all the time."""
    configuration = config(tmp_path, "model.freeze=backbone", "model.unfreeze_after=4 steps", "steps=9")
    training = build_experiment(configuration, assemble(configuration)).training
    parameters = dict(training.model.named_parameters())
    (frozen,) = training.frozen
    body = [frozen.warm_up(step, parameters["conv1.weight"]) for step in range(10)]
    assert body == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert {frozen.warm_up(step, parameters["fc.weight"]) for step in range(10)} == {1}
    before, after = initial(configuration), weights(start(configuration, []))
    assert not {key for key in changed(before, after) if key.endswith(("running_mean", "running_var"))}
    rates = {group["lr"] for group in load_checkpoint(only(tmp_path))["optimizer"]["param_groups"]}
    assert rates == {0.05}


def test_what_freezes_after_a_while_is_the_plain_run_until_then_and_stays(tmp_path):
    """Weights, statistics and what the optimizer remembers of them; two parts at two steps."""
    overrides = ["engine.checkpoint_every=1 step", "augment=shift"]
    after = "++model.freeze_after={conv1: 3 steps, bn1: 3 steps, layer1: 5 steps}"
    plain = {n: start(config(tmp_path / f"plain{n}", *overrides, f"steps={n}"), []) for n in (3, 5)}
    run = {n: start(config(tmp_path / f"late{n}", *overrides, after, f"steps={n}"), []) for n in (3, 4, 5, 8)}
    state = {n: weights(run[n]) for n in run}
    assert_same(state[3], weights(plain[3]))
    first = {key for key in state[3] if key.startswith(("conv1.", "bn1."))}
    second = {key for key in state[3] if key.startswith("layer1.")}
    rest = state[3].keys() - first - second
    assert changed(state[3], state[4]) == second | rest and changed(state[3], state[5]) == second | rest
    assert changed(state[5], state[8]) == rest
    assert changed(state[5], weights(plain[5])) >= first
    buffers = [load_checkpoint(run[n].last)["optimizer"]["state"][0]["momentum_buffer"] for n in (3, 8)]
    assert torch.equal(*buffers)


def test_freezing_that_the_run_does_not_come_to_is_told(tmp_path, capsys):
    start(config(tmp_path / "late", "++model.freeze_after={conv1: 4 steps, bn1: 3 steps, fc: 9 steps}", "steps=4"), [])
    told = capsys.readouterr().out
    assert "model.freeze_after: 4 and 9 steps are not less than the run's 4: what was to freeze then" in told
    start(config(tmp_path / "never", "model.freeze=[conv1]", "model.unfreeze_after=4 steps", "steps=4"), [])
    told = capsys.readouterr().out
    assert "model.unfreeze_after: 4 steps are not less than the run's 4: what is frozen never learns" in told
    start(config(tmp_path / "early", "model.freeze=[conv1]", "model.unfreeze_after=3 steps", "steps=4"), [])
    assert "are not less than" not in capsys.readouterr().out


def test_of_what_has_frozen_a_step_computes_no_gradient(tmp_path):
    after = "++model.freeze_after={conv1: 2 steps, bn1: 2 steps, layer1.0: 2 steps}"
    configuration = config(tmp_path, after, "steps=4")
    training = build_experiment(configuration, assemble(configuration)).training
    seen = []
    training.model.layer1[0].register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
    for step in range(4):
        images, labels = training.train.batch(0, step)
        compute_gradients(training, images, labels, State(step=step))
    assert seen == [True, True, False, False]


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_freezing_after_a_while_resumes_exactly(tmp_path, stop):
    after = "++model.freeze_after={conv1: 4 steps, bn1: 4 steps, layer1: 0.6 epochs}"
    overrides = [after, "augment=shift", "average=ema"]
    whole = start(config(tmp_path / "whole", *overrides, "steps=8"), [])
    run = start(config(tmp_path / "stopped", *overrides, f"steps={stop}"), [])
    resume(str(run.path), ["steps=8"])
    assert metrics(run) == metrics(whole)
    for part in ("model", "optimizer", "average"):
        assert_same(load_checkpoint(run.last)[part], load_checkpoint(whole.last)[part])


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.freeze=[blocks.0]", "model.unfreeze_after=2 steps"],
        ["++model.freeze_after={blocks.0: 2 steps}"],
    ],
)
def test_what_never_learns_does_not_begin_to(tmp_path, overrides):
    """The scales of whitened_cnn's batch normalisation are 1, whatever is frozen, and until when."""
    small = ["model=whitened_cnn", "model.widths=[8,8]", "steps=4"]
    run = start(small_config(tmp_path, *small, *overrides), [])
    scales = [value for key, value in weights(run).items() if key.endswith(("norm1.weight", "rest.0.1.weight"))]
    assert len(scales) == 4 and all(torch.equal(scale, torch.ones(8)) for scale in scales)


@pytest.mark.parametrize("order", [["layer1.0: 2 steps", "layer1: 4 steps"], ["layer1: 4 steps", "layer1.0: 2 steps"]])
def test_of_names_within_each_other_the_longest_counts(tmp_path, order):
    after = f"++model.freeze_after={{{', '.join(order)}}}"
    early, late, end = (weights(start(config(tmp_path / str(n), after, f"steps={n}"), [])) for n in (2, 4, 6))
    inner = {key for key in early if key.startswith("layer1.0.")}
    outer = {key for key in early if key.startswith("layer1.")}
    assert changed(early, late) == early.keys() - inner and changed(late, end) == early.keys() - outer


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["++model.freeze_after={layr1: 2 epochs}"], "model.freeze_after: no parameter's name starts with 'layr1'"),
        (
            ["model.freeze=[layer1]", "++model.freeze_after={layer1.0: 2 epochs}"],
            "model.freeze_after: layer1.0 has parameters that model.freeze names too; expected one of both",
        ),
        (
            ["model.freeze=backbone", "++model.freeze_after={fc: 2 epochs}"],
            "model.freeze_after: with fc all of the parameters would be frozen; expected some that learn to the end",
        ),
    ],
)
def test_what_cannot_freeze_after_a_while(tmp_path, overrides, told):
    with pytest.raises(ConfigError, match=told):
        assemble(config(tmp_path, *overrides))


def only(folder):
    (found,) = folder.glob("*/*/checkpoints/last.pt")
    return found


# --- Kept features ------------------------------------------------------------------------------------------

FROZEN = ["model.freeze=backbone", "model.head=[16]", "model.head_dropout=0.2"]


@pytest.mark.parametrize(("augment", "views"), [("shift", 2), ("none", 1)])
def test_features_of_all_that_epochs_show_give_the_same_run(tmp_path, augment, views):
    """Bit for bit: as many views as epochs, or one where images are the same in every epoch."""
    overrides = [*FROZEN, f"augment={augment}"]
    kept = start(config(tmp_path / "kept", *overrides, f"model.feature_views={views}"), [])
    plain = start(config(tmp_path / "plain", *overrides, "model.feature_views=0"), [])
    assert_same_end(kept, plain)


def test_fewer_views_than_epochs_are_another_run(tmp_path):
    overrides = [*FROZEN, "augment=shift"]
    once, each = (start(config(tmp_path / views, *overrides, f"model.feature_views={views}"), []) for views in "12")
    assert metrics(once)[0] == metrics(each)[0] and metrics(once)[1] != metrics(each)[1]


@pytest.mark.parametrize(
    "stop", [5, pytest.param(11, marks=pytest.mark.slow), pytest.param(27, marks=pytest.mark.slow)]
)  # in the first epoch, at its end, in the third
def test_kept_features_resume_exactly(tmp_path, stop):
    overrides = [*FROZEN, "augment=shift", "model.feature_views=2", "sampling=balanced", "average=ema"]
    whole = start(config(tmp_path / "whole", *overrides, "epochs=4"), [])
    run = start(config(tmp_path / "stopped", *overrides, f"steps={stop}"), [])
    resume(str(run.path), ["steps=null", "epochs=4"])
    assert metrics(run) == metrics(whole)  # though the shorter run may have found its best inside an epoch
    for part in ("model", "optimizer", "average"):
        assert_same(load_checkpoint(run.last)[part], load_checkpoint(whole.last)[part])


def test_a_run_with_kept_features_is_as_any_other_afterwards(tmp_path, capsys):
    configuration = config(tmp_path, *FROZEN, "augment=shift", "model.feature_views=1")
    run = start(configuration, [])
    assert weights(run, "best").keys() == initial(configuration).keys()
    summary = run.read_json(run.summary)
    test, valid = evaluate_run(str(run.path)), evaluate_run(str(run.path), "valid")
    assert {key: test[key] for key in summary["test"]} == summary["test"]
    assert valid["loss"] == summary["best"]["valid_loss"] and valid["log_loss"] == summary["best"]["valid_log_loss"]
    assert reproduce(str(run.path), [])


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (["model.freeze=backbone"], True),
        (["model.freeze=backbone", "augment=shift"], False),
        (["model.freeze=backbone", "augment=mixup"], False),
        (["model.freeze=backbone", "model.unfreeze_after=1 epoch"], False),
        (["model.freeze=[conv1]"], False),
        (["model.freeze=backbone", "model=torchvision", "model.arch=squeezenet1_1", "dataset.image_size=20"], False),
    ],
)
def test_auto_keeps_features_where_that_changes_nothing(tmp_path, overrides, kept):
    configuration = config(tmp_path, *overrides)
    training = build_experiment(configuration, assemble(configuration)).training
    assert isinstance(training.model, OnFeatures) == kept


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.feature_views=1"], "model.feature_views: 1 was given; features can be kept of a backbone that stays"),
        (["model.freeze=backbone", "model.unfreeze_after=1 epoch", "model.feature_views=2"], "model.feature_views: 2"),
        (["model.unfreeze_after=1 epoch"], "model.unfreeze_after: 1 epoch was given; expected null"),
        (["model.freeze=backbone", "model.unfreeze_after=soon"], "model.unfreeze_after: 'soon' was given; expected a"),
        (["model.freeze=head"], "model.freeze: 'head' was given; expected one of backbone or list of str or int"),
        (["model.freeze=backbone", "average=swa"], "average: swa was given beside model.freeze; expected ema"),
        (["++model.freeze_after={conv1: 1 epoch}", "average=swa"], "swa was given beside model.freeze_after"),
        (["++model.freeze_after={conv1: soon}"], "model.freeze_after: 'soon' was given; expected a number above 0 and"),
        (["model.head=[0]"], r"model.head: \[0\] was given; expected list of int at least 1"),
    ],
)
def test_mistakes_are_told_before_data(tmp_path, overrides, told):
    with pytest.raises(ConfigError, match=told):
        config(tmp_path, *overrides)


@pytest.mark.parametrize("key", ["freeze_after={0: 1 epoch}", "freeze=['0'] model.unfreeze_after=1 epoch"])
def test_an_optimizer_of_one_vector_freezes_nothing_for_a_while(tmp_path, key):
    overrides = f"++model.{key}".replace(" model.", "|model.").split("|")
    with pytest.raises(ConfigError, match="freeze_after: was given beside optimizer lbfgs, which moves all weights"):
        small_config(tmp_path, "optimizer=lbfgs", *overrides)


def test_features_cannot_be_kept_of_a_network_that_goes_on_after_its_last_layer(tmp_path):
    network = ["model=torchvision", "model.arch=squeezenet1_1", "dataset.image_size=20"]
    configuration = config(tmp_path, *network, "model.freeze=backbone", "model.feature_views=1")
    with pytest.raises(ConfigError, match="goes on after its last layer, classifier.1"):
        build_experiment(configuration, assemble(configuration))


def test_features_of_mixed_images_are_not_kept(tmp_path):
    configuration = config(tmp_path, "model.freeze=backbone", "model.feature_views=1", "augment=mixup")
    with pytest.raises(ConfigError, match="model.feature_views: 1 was given beside augment.mixup; expected 0"):
        build_experiment(configuration, assemble(configuration))


# --- Classes of different sizes -----------------------------------------------------------------------------


def test_class_weights_come_from_the_training_images(tmp_path):
    configuration = config(tmp_path, "loss.class_weights=auto", "epochs=1")
    experiment = build_experiment(configuration, assemble(configuration))
    labels = experiment.training.train.labels.tolist()
    expected = [len(labels) / (10 * labels.count(label)) for label in range(10)]
    weights = [float(experiment.training.criterion.weigh(torch.tensor([label]))) for label in range(10)]
    assert weights == pytest.approx(expected)
    run = start(configuration, [])
    assert evaluate_run(str(run.path), "valid")["loss"] == run.read_json(run.summary)["best"]["valid_loss"]


def test_balanced_sampling_resumes_exactly(tmp_path):
    overrides = ["sampling=balanced", "augment=shift", "engine.checkpoint_every=5 steps"]
    whole = start(small_config(tmp_path / "whole", *overrides), [])
    run = start(small_config(tmp_path / "stopped", *overrides, "steps=30"), [])
    resume(str(run.path), ["steps=null"])
    assert_same_end(run, whole)


def test_the_log_loss_can_choose_the_best_epoch_and_classes_are_shown(pictures, tmp_path, capsys):
    overrides = ["loss=focal", "engine.select_by=valid_log_loss", "epochs=4"]
    run = start(small_config(tmp_path, *overrides), [])
    rows = run.read_metrics()
    assert run.read_json(run.summary)["best"]["valid_log_loss"] == min(float(row["valid_log_loss"]) for row in rows)
    assert all(float(row["valid_log_loss"]) > float(row["valid_loss"]) for row in rows)
    assert run.confusion.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["evaluate", str(run.path)]) == 0
    table = capsys.readouterr().out
    assert main(["evaluate", str(run.path), "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    confusion = torch.tensor(evaluation["confusion"])
    assert confusion.shape == (10, 10) and int(confusion.sum()) == 359
    assert int(confusion.trace()) / 359 == evaluation["accuracy"]
    rows = [line.split(",") for line in run.classes.read_text().splitlines()]
    assert rows[0] == ["class", "images", "precision", "recall", "f1"]
    assert [float(row[4]) for row in rows[1:]] == [score["f1"] for score in evaluation["classes"]]
    assert table.splitlines()[-1].split()[:3] == ["mean", "of", "classes"]
    assert f"{evaluation['mean_of_classes']['f1']:.4f}" == table.split()[-1]


def test_without_test_images_the_validation_images_are_shown_class_by_class(tmp_path):
    run = start(small_config(tmp_path, "split.test=0", "epochs=1"), [])
    images = [int(line.split(",")[1]) for line in run.classes.read_text().splitlines()[1:]]
    assert sum(images) == run.read_json(run.summary)["images"]["valid"]
