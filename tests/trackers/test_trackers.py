"""Trackers are told what the run directory tells, read back by their own readers; what fails there stops nothing."""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from cnnlab.cli import main
from cnnlab.errors import ConfigError
from cnnlab.runs import feed
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.feed import tell_story
from cnnlab.runs.start import resume, start
from cnnlab.trackers.registry import TRACKERS
from tests.conftest import small_config


def find_values(run: RunDirectory, column: str) -> dict[int, float]:
    return {row["step"]: row[column] for row in run.read_metrics()}


def test_tensorboard_reads_what_metrics_csv_has(tmp_path, pictures):
    accumulating = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    run = start(small_config(tmp_path, "logger=tensorboard", "epochs=2"), [])
    resume(str(run), ["epochs=3"])
    read = accumulating.EventAccumulator(str(run.path / "tensorboard")).Reload()
    for column in ("train_loss", "valid_accuracy", "lr"):
        events = {event.step: event.value for event in read.Scalars(column)}
        assert events == pytest.approx(find_values(run, column))
        assert len(read.Scalars(column)) == 3
    test = json.loads(run.summary.read_text())["test"]["accuracy"]
    assert read.Scalars("test_accuracy")[-1].value == pytest.approx(test)
    assert {"curves", "confusion", "augmented", "mistakes"} <= set(read.Tags()["images"])
    told = read.Tensors("parameters/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| optimizer.lr | 0.003 |" in told


@pytest.mark.parametrize("store", [pytest.param("folder", marks=pytest.mark.slow), "sqlite"])
def test_mlflow_reads_what_metrics_csv_has(store, tmp_path, pictures, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    if store == "sqlite":
        pytest.importorskip("sqlalchemy", reason="a database needs sqlalchemy")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'm.db'}" if store == "sqlite" else (tmp_path / "mlruns").as_uri()
    run = start(small_config(tmp_path, "logger=mlflow", f"logger.mlflow.uri='{uri}'", "epochs=2"), [])
    resume(str(run), ["epochs=3"])
    client = tracking.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("mnist_cnn-digits")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == run.path.name
    assert found.data.params["optimizer.lr"] == "0.003" and found.data.params["model.name"] == "mnist_cnn"
    assert found.data.tags["cnnlab.run"] == run.read_id()
    for column in ("train_loss", "valid_accuracy"):
        history = client.get_metric_history(found.info.run_id, column)
        assert {m.step: m.value for m in history} == pytest.approx(find_values(run, column)) and len(history) == 3
    assert found.data.metrics["test_accuracy"] == json.loads(run.summary.read_text())["test"]["accuracy"]
    drawn = {Path(artifact.path).name for artifact in client.list_artifacts(found.info.run_id, "plots")}
    assert {"curves.png", "confusion.png"} <= drawn


def test_wandb_is_told_the_same(tmp_path, monkeypatch):
    """By a stand-in of the package: the service itself is out of reach here."""
    told: dict[str, Any] = {"rows": [], "inits": []}

    def init(**settings: Any) -> Any:
        told["inits"].append(settings)
        summary: dict[str, Any] = {}
        told["summary"] = summary
        return types.SimpleNamespace(
            log=lambda values, step=None: told["rows"].append((step, values)),
            summary=summary,
            finish=lambda exit_code: told.update(exit_code=exit_code),
        )

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Image=str))
    run = start(small_config(tmp_path, "logger=wandb", "logger.wandb.mode=offline", "epochs=1"), [])
    resume(str(run), ["epochs=2"])
    assert [settings["id"] for settings in told["inits"]] == [run.read_id()] * 2
    assert told["inits"][0]["mode"] == "offline" and told["inits"][0]["config"]["optimizer.lr"] == 0.003
    rows = [(step, values) for step, values in told["rows"] if step is not None]
    assert {step: values["train_loss"] for step, values in rows} == find_values(run, "train_loss")
    assert len(rows) == 2 and told["exit_code"] == 0
    assert told["summary"]["test_accuracy"] == json.loads(run.summary.read_text())["test"]["accuracy"]


class Broken:
    """A tracker that fails, or takes its time, in one of its deeds."""

    id = "some"

    def __init__(self, deed: str, seconds: float):
        self._deed, self._seconds = deed, seconds
        self._do("start")

    def _do(self, deed: str) -> None:
        if deed == self._deed:
            if not self._seconds:
                raise SystemExit("\x1b[31mno such host")
            time.sleep(self._seconds)

    def log_row(self, step: int, values: Any) -> None:
        self._do("log_row")

    def log_pictures(self, paths: Any) -> None:
        self._do("log_pictures")

    def end(self, status: str, values: Any, step: int) -> None:
        self._do("end")


@pytest.mark.parametrize("deed", ["start", "log_row", "log_pictures", "end"])
@pytest.mark.parametrize("seconds", [0, 60], ids=["down", "slow"])
def test_a_tracker_that_is_down_or_slow_gets_one_warning(deed, seconds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(feed, "SECONDS_AT_END", 0.5)
    monkeypatch.setitem(TRACKERS._builders, "mlflow", lambda *, story, known_id, uri=None: Broken(deed, seconds))
    plain = small_config(tmp_path / "plain", "epochs=3")
    config = small_config(tmp_path / "told", "epochs=3", "logger=mlflow")
    start(plain, [])
    capsys.readouterr()
    started = time.perf_counter()
    run = start(config, [])
    assert time.perf_counter() - started < 30
    told = capsys.readouterr().err
    assert told.count("warning: logger mlflow") == 1 and "the run goes on" in told and "\x1b" not in told
    assert json.loads(run.summary.read_text())["status"] == "completed"
    assert len(run.read_metrics()) == 3


def test_a_tracker_that_is_not_installed_gets_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    run = start(small_config(tmp_path, "logger=mlflow", "epochs=1"), [])
    told = capsys.readouterr().err
    assert told.count("warning: logger mlflow: ModuleNotFoundError") == 1
    assert json.loads(run.summary.read_text())["status"] == "completed"


def test_what_was_not_told_is_told_later(tmp_path, monkeypatch, capsys):
    """A tracker that was down is told of all epochs when the run goes on."""
    rows: list[int] = []

    class Listening(Broken):
        def log_row(self, step: int, values: Any) -> None:
            rows.append(step)

    monkeypatch.setitem(TRACKERS._builders, "mlflow", lambda *, story, known_id, uri=None: Broken("log_row", 0))
    run = start(small_config(tmp_path, "epochs=2", "logger=mlflow"), [])
    monkeypatch.setitem(TRACKERS._builders, "mlflow", lambda *, story, known_id, uri=None: Listening("", 0))
    resume(str(run), ["epochs=3"])
    assert rows == [21, 42, 63]


def test_runs_of_a_sweep_are_grouped(tmp_path):
    config = small_config(tmp_path, "epochs=1", "name=trials")
    run = start(config, [])
    assert tell_story(run, config).group is None and tell_story(run, config).name == run.path.name
    (run.path.parent / "sweep.yaml").write_text("")
    assert tell_story(run, config).group == "trials"


def test_mistyped_loggers_are_told(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"logger\.mlflow\.url: no such key.*uri|uri"):
        small_config(tmp_path, "logger=mlflow", "+logger.mlflow.url=x")
    assert main(["train", "logger=mlfow", f"output_dir={tmp_path}"]) == 2
    assert "logger: no 'mlfow'; did you mean mlflow" in capsys.readouterr().err


def test_a_saved_run_keeps_its_loggers_and_old_ones_have_none(tmp_path):
    from cnnlab.config import parse
    from cnnlab.signature import as_yaml

    config = small_config(tmp_path, "logger=[tensorboard,wandb]")
    tree = as_yaml(config)
    assert tree["logger"] == {"tensorboard": {}, "wandb": {"project": "cnnlab", "mode": None}}
    assert parse(tree) == config
    del tree["logger"], tree["plots"]
    assert parse(tree).logger.components == () and parse(tree).plots == "on"
