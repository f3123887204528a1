"""The statistics, against scipy and pandas; judges, on rows that are written by hand."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter

import numpy as np
import pytest
import yaml

from cnnlab.cli import main
from cnnlab.config import parse
from cnnlab.runs.start import start
from cnnlab.sweeps.answers import write_best
from cnnlab.sweeps.compare import bootstrap_difference, compare_pair, explain_variance, find_varied, mcnemar
from cnnlab.sweeps.directory import Outcome, SweepDirectory, Trial
from cnnlab.sweeps.proposals import count_combinations, draw, draw_different
from cnnlab.sweeps.pruning import Judge
from cnnlab.sweeps.settings import parse_settings
from cnnlab.sweeps.space import Axis
from tests.conftest import compose_tree, small_config

SETTINGS = {
    "space": {}, "seeds": 1, "trials": None, "sampler": "auto", "seed": 0, "metric": "auto", "pruner": "none",
    "reduction": 3, "min_epochs": 1, "startup": 2, "patience": 2, "workers": "auto", "on_failure": "continue",
    "max_time": None,
}  # fmt: skip


@pytest.mark.parametrize("first, second", [(0, 0), (1, 0), (14, 22), (3, 19), (50, 50), (0, 12), (200, 260)])
def test_mcnemar_is_the_exact_binomial_test(first, second):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-12)


def test_the_bootstrap_interval_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(0)
    first, second = draw.random(500) < 0.8, draw.random(500) < 0.86
    low, high = bootstrap_difference(first, second)
    difference = second.astype(float) - first
    expected = stats.bootstrap((difference,), np.mean, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.003)


def test_how_much_an_axis_explains():
    """Scores a + b with a in {0, 1}, b in {0, 0.5}: of the squares, 1.25, 1 is between the two a, 0.25 between the b.

    Within the a are 0.25, within the b 1, each with two degrees of freedom: (1 - 0.125) / (1.25 + 0.125), and less
    than nothing.
    """
    rows = [{"a": a, "b": b} for a in (0, 1) for b in (0, 0.5)]
    scores = [row["a"] + row["b"] for row in rows]
    assert explain_variance(rows, scores) == pytest.approx({"a": 0.875 / 1.375, "b": 0.0})


def test_chance_explains_nothing():
    """On average; of a key whose values each stand for one score there is nothing to say."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        rows = [{"lr": draw.random(), "wd": None if n == 0 else draw.random()} for n in range(20)]
        found.append(explain_variance(rows, draw.random(20).tolist()))
    assert all(set(each) == {"lr", "wd"} for each in found)
    assert np.mean([each["lr"] for each in found]) < 0.1 and np.median([each["wd"] for each in found]) < 0.1
    assert explain_variance([{"lr": n, "name": str(n)} for n in range(5)], [1.0, 3.0, 2.0, 5.0, 4.0]) == {}


def test_whole_numbers_below_nought_are_drawn_as_often_as_others():
    axis = Axis("k", (), -3, 3, whole=True)
    assert Counter(axis.draw(n / 7000) for n in range(7000)) == {str(k): 1000 for k in range(-3, 4)}


@pytest.mark.parametrize("metric", ["valid_accuracy", "valid_loss"])
def test_patience_counts_what_is_equal_and_what_is_no_number_as_no_improvement(tmp_path, metric):
    sweep = sweep_of(tmp_path, [[0.1] * 9])
    judged = Judge(
        sweep, parse_settings({**SETTINGS, "pruner": "patience", "patience": 3}), metric, Trial(0, 0, 0, [], {})
    )
    assert "did not improve for 8 epochs" in judged([{metric: 0.1}] * 9)
    assert "did not improve for 3 epochs" in judged([{metric: math.nan}] * 4)
    assert judged([{metric: math.nan}] * 4 + [{metric: 0.5}]) is None


def test_the_best_configuration_is_a_file_whatever_its_values_are(tmp_path):
    values = ["schedule.warmup='2 steps'", "augment=[shift,mixup]", "optimizer.lr=1e-3", "note='a=b, c'"]
    trials = [Trial(0, 0, 0, ["optimizer.lr=1"], {}), Trial(1, 1, 0, values, {})]
    sweep = SweepDirectory.claim(tmp_path, {"settings": {}, "axes": []}, trials)
    outcomes = {0: Outcome("completed", 0.5), 1: Outcome("completed", 0.9)}
    write_best(sweep, trials, outcomes, "valid_accuracy", ["model=lenet", "optimizer.lr=1", "name=my\\ run", "~plots"])
    found = yaml.safe_load(sweep.best.read_text())
    assert found == {
        "defaults": [{"override /model": "lenet"}, {"override /augment": ["shift", "mixup"]}],
        "name": "my run",
        "schedule": {"warmup": "2 steps"},
        "optimizer": {"lr": 0.001},
        "note": "a=b, c",
    }
    (command,) = [line for line in sweep.best.read_text().splitlines() if line.startswith("# cnnlab train")]
    assert shlex.split(command.removeprefix("# "))[2:] == ["model=lenet", "name=my\\ run", "~plots", *values]


def test_nothing_is_drawn_twice_while_others_are_left():
    axes = [Axis("x", ("a", "b", "c")), Axis("y", (), 1, 4, whole=True)]
    assert count_combinations(axes) == 12 and count_combinations([*axes, Axis("z", (), 0.0, 1.0)]) is None
    drawn = draw_different(axes, 0, 12)
    assert len(set(map(tuple, drawn))) == 12 and draw_different(axes, 0, 5) == drawn[:5]
    assert drawn[0] == draw(axes, 0, 0)
    assert len(draw_different(axes, 0, 15)) == 15  # of a sweep begun before that was refused


@pytest.mark.parametrize("axis", [Axis("x", (), 1e-4, 1.0, log=True), Axis("x", (), 2, 5, whole=True)])
def test_what_is_drawn_depends_on_its_number_alone_and_fills_the_axis(axis):
    values = [float(draw([axis], 0, number)[0].partition("=")[2]) for number in range(400)]
    assert values[7] == float(draw([axis], 0, 7)[0].partition("=")[2])
    assert axis.low <= min(values) and max(values) <= axis.high
    if axis.whole:
        assert set(values) == {2, 3, 4, 5} and min(map(values.count, set(values))) > 70
    else:
        assert 0.4 < np.mean(np.array(values) < 1e-2) < 0.6  # half of the logarithms


def sweep_of(folder, curves: list[list[float]], seeds: int = 1) -> SweepDirectory:
    trials = [Trial(number, number // seeds, number % seeds, [], {}) for number in range(len(curves))]
    sweep = SweepDirectory.claim(folder, {"settings": {}, "axes": []}, trials)
    for number, curve in enumerate(curves):
        run = sweep.run(number)
        run.path.mkdir()
        run.write_metrics([{"epoch": i + 1, "valid_accuracy": value} for i, value in enumerate(curve)])
    return sweep


def judge(sweep: SweepDirectory, number: int, **given: object) -> str | None:
    judged = Judge(sweep, parse_settings({**SETTINGS, **given}), "valid_accuracy", sweep.read_trials()[number])
    return judged(sweep.run(number).read_metrics())


def test_asha_keeps_the_best_third_of_those_that_got_as_far(tmp_path):
    sweep = sweep_of(tmp_path, [[0.1], [0.5], [0.9], [0.7], [0.3], [0.6]])
    assert [judge(sweep, n, pruner="asha") is None for n in range(6)] == [False, False, True, True, False, False]
    assert "not among the best 2 of 6 at epoch 1" in judge(sweep, 0, pruner="asha")


def test_asha_looks_at_its_rungs_alone(tmp_path):
    sweep = sweep_of(tmp_path, [[0.9, 0.1], [0.9, 0.95], [0.9, 0.96]])
    assert judge(sweep, 0, pruner="asha") is None  # after two epochs; it is asked after one and three
    assert judge(sweep, 0, pruner="asha", reduction=2) is not None


def test_the_median_of_the_others(tmp_path):
    sweep = sweep_of(tmp_path, [[0.4, 0.5], [0.6, 0.6], [0.2, 0.7]])
    assert "worse than the median 0.6500 at epoch 2" in judge(sweep, 0, pruner="median")
    assert judge(sweep, 2, pruner="median") is None
    assert judge(sweep, 0, pruner="median", startup=3) is None  # too few to compare with


def test_patience_looks_at_the_trial_alone(tmp_path):
    sweep = sweep_of(tmp_path, [[0.5, 0.4, 0.45], [0.5, 0.4, 0.6]])
    assert "did not improve for 2 epochs" in judge(sweep, 0, pruner="patience")
    assert judge(sweep, 1, pruner="patience") is None


def test_a_configuration_is_judged_by_the_mean_of_its_seeds(tmp_path):
    sweep = sweep_of(tmp_path, [[0.9], [0.1], [0.6], [0.6], [0.4], [0.4]], seeds=2)
    # Means 0.5, 0.6 and 0.4: the best third is the second alone, whatever the first's better seed says.
    assert [judge(sweep, n, pruner="asha", seeds=2) is None for n in range(6)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_a_branch_that_is_empty_in_some_runs_is_told_by_its_keys():
    rows = [{"augment": {}, "seed": 0, "epochs": 2}, {"augment.flip.p": 0.5, "seed": 0, "epochs": 2}]
    assert find_varied(rows) == ["augment.flip.p"]


def test_a_tracker_is_no_difference_between_runs():
    rows = [{"model.name": "mlp", "logger": {}}, {"model.name": "mlp", "logger.tensorboard": {}, "seed": 1}]
    assert find_varied(rows) == []


def test_the_columns_that_there_are_are_named(tmp_path, capsys):
    """Where nothing was validated, there is no column that runs were selected by."""
    keys = ["experiment=linear_regression", "epochs=1", f"output_dir={tmp_path}"]
    runs = [str(start(parse(compose_tree(*keys, f"seed={seed}")), [])) for seed in range(2)]
    assert main(["compare", *runs]) == 2
    told = "--metric: no run here has valid_loss; expected one of train_loss, train_mae"
    assert told in capsys.readouterr().err
    assert main(["compare", *runs, "--metric", "train_mae"]) == 0


def test_paired_networks_see_what_their_evaluations_see(tmp_path):
    """Views of a test image, where the run evaluates with some."""
    runs = [
        start(small_config(tmp_path / str(seed), "engine.tta=flip", "epochs=1", f"seed={seed}"), []) for seed in (0, 1)
    ]
    found = compare_pair(*(str(run.path) for run in runs))
    assert "Both are right on the same images." not in str(found)
    assert "Both are right on the same images." in str(compare_pair(str(runs[0].path), str(runs[0].path)))
    assert found.accuracies == pytest.approx([run.read_json(run.summary)["test"]["accuracy"] for run in runs])


def test_a_run_is_counted_once_and_one_that_was_killed_by_its_best_epoch(tmp_path, capsys):
    run = start(small_config(tmp_path, "epochs=2"), [])
    summary = run.read_json(run.summary)
    killed = {"status": "running", "select_by": "valid_accuracy"}
    run.write_json(run.summary, killed)
    capsys.readouterr()
    assert main(["compare", str(run.path), f"{run.path}/../{run.path.name}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["runs"] == 1 and row["status"] == "killed"
    assert row["valid_accuracy"] == pytest.approx(summary["best"]["valid_accuracy"])


def test_runs_of_one_seed_and_configuration_are_one_sample(tmp_path, capsys):
    """Two seeds of which one was run three times, once on another device's terms and once to half its way."""
    runs = [start(small_config(tmp_path, "epochs=1", f"seed={seed}"), []) for seed in (0, 1)]
    again = start(small_config(tmp_path, "epochs=1", "seed=1", "engine.threads=1"), [])
    killed = start(small_config(tmp_path, "epochs=1", "seed=1"), [])
    killed.write_json(killed.summary, {"status": "running", "select_by": "valid_accuracy"})
    capsys.readouterr()
    assert main(["compare", *(str(run.path) for run in (*runs, again, killed)), "--json"]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    scores = [run.read_json(run.summary)["best"]["valid_accuracy"] for run in (runs[0], again)]
    assert row["runs"] == 2 and row["std"] == pytest.approx(np.std(scores, ddof=1))
    assert row["status"] == "completed"
    assert f"(2): {runs[1].path.name}, {killed.path.name}" in err
