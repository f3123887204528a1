"""MLflow: an experiment by the configuration's name, a run in it, found again by its id."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlab.trackers.registry import TRACKERS, Story, Tracker

MAX_LETTERS = 500  # of a parameter's value
AT_ONCE = 100  # parameters
STATUS = {"completed": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}  # and others: KILLED


@TRACKERS.register
def mlflow(*, story: Story, known_id: str | None, uri: str | None = None) -> Tracker:
    """MLflow's server, folder or database."""
    return MLflow(story, known_id, uri)


class MLflow:
    def __init__(self, story: Story, known_id: str | None, uri: str | None):
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=uri)
        if known_id is not None:
            self.id = known_id
            self._client.update_run(known_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(story.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(story.experiment)
        tags = {
            "cnnlab.run": story.id,
            "cnnlab.directory": str(story.path),
            **({"mlflow.source.git.commit": story.commit} if story.commit else {}),
            **({"cnnlab.group": story.group} if story.group else {}),
        }
        self.id = self._client.create_run(experiment, tags=tags, run_name=story.name).info.run_id
        parameters = [Param(key, str(value)[:MAX_LETTERS]) for key, value in story.parameters.items()]
        for start in range(0, len(parameters), AT_ONCE):
            self._client.log_batch(self.id, params=parameters[start : start + AT_ONCE])

    def log_row(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def log_pictures(self, paths: list[Path]) -> None:
        for path in paths:
            self._client.log_artifact(self.id, str(path), "plots")

    def end(self, status: str, values: Mapping[str, float], step: int) -> None:
        if values:
            self.log_row(step, values)
        self._client.set_terminated(self.id, status=STATUS.get(status, "KILLED"))
