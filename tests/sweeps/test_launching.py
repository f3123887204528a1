"""The same trials through launchers of Hydra's: results equal bit for bit, failures and requests to stop told alike."""

from __future__ import annotations

import pytest

from cnnlab.errors import ConfigError
from cnnlab.sweeps.launching import quote, require_launcher, split_launcher
from tests.sweeps.test_sweep import FAST, assert_same_results, begin, only_sweep, read_table, stop_at_work

LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra.launcher.timeout_min=5"],
    "ray": [],
}
PACKAGES = {"joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "submitit", "ray": "ray"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_gives_the_results_of_this_machine(cnnlab, tmp_path, launcher):
    if launcher in PACKAGES:
        pytest.importorskip(PACKAGES[launcher])
    (tmp_path / "here").mkdir()
    (tmp_path / "there, it's").mkdir()  # what Hydra's grammar would split
    arguments = ["train", "-m", *FAST, "engine.threads=1", "seed=0,1", "optimizer.lr=0.01,0.1"]
    assert begin(tmp_path / "here", *arguments).wait(timeout=170) == 0
    process = begin(tmp_path / "there, it's", *arguments, f"hydra/launcher={launcher}", *LAUNCHERS[launcher])
    out, _ = process.communicate(timeout=170)
    assert process.returncode == 0, out
    assert out.count(" completed | valid_accuracy") == 4
    assert_same_results(only_sweep(tmp_path / "here"), only_sweep(tmp_path / "there, it's"))


@pytest.mark.slow
def test_failures_and_retries_of_launched_trials(cnnlab, tmp_path):
    swept = ["model=mlp", "optimizer=sgd", "optimizer.lr=1e30,0.01", "sweep.on_failure=retry:1"]
    done = cnnlab("train", "-m", *FAST, *swept, "hydra/launcher=basic")
    assert done.returncode == 9 and "1 of 2 trials failed" in done.stderr and "learning rate 1e+30" in done.stderr
    assert done.stdout.count("and is tried again") == 1
    assert [row["status"] for row in read_table(only_sweep(tmp_path))] == ["failed", "completed"]


@pytest.mark.slow
def test_a_launched_sweep_is_stopped_and_resumed(cnnlab, tmp_path):
    arguments = ["train", "-m", *FAST, "epochs=600", "seed=0,1", "engine.threads=1"]
    process = begin(tmp_path, *arguments, "hydra/launcher=basic")
    out = stop_at_work(process, tmp_path)
    assert process.returncode == 130 and "cnnlab sweep resume" in out
    sweep = only_sweep(tmp_path)
    assert [row["status"] for row in read_table(sweep)] == ["interrupted", "waiting"]
    assert cnnlab("sweep", "stop", str(sweep)).returncode == 0
    assert cnnlab("sweep", "resume", str(sweep)).returncode == 0
    assert [row["status"] for row in read_table(sweep)] == ["completed"] * 2


def test_what_is_typed_for_a_launcher():
    typed = ["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "+hydra.launcher.verbose=1"]
    assert split_launcher(typed) == (typed[1:], typed[:1])
    assert split_launcher(["seed=0,1", "hydra.verbose=true"]) == ([], ["seed=0,1", "hydra.verbose=true"])


@pytest.mark.parametrize("given", [["hydra/launcher=slurmy"], ["hydra/launcher=basic", "hydra.launcher.jobs=3"]])
def test_a_launcher_that_is_not_there_or_has_no_such_setting(given):
    with pytest.raises(ConfigError, match=r"hydra.launcher.*expected hydra/launcher with one that is installed"):
        require_launcher(given)


def test_paths_in_the_grammar_of_hydra(tmp_path):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for name in ("plain", "a b", "it's, [1]=2", "back\\slash", "both\\'", "end\\"):
        override = OverridesParser.create().parse_override(f"+sweep={quote(tmp_path / name)}")
        assert override.value() == str(tmp_path / name)
