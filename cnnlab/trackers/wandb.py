"""Weights & Biases: a run by the id of the run directory, grouped by its sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cnnlab.trackers.registry import TRACKERS, Story, Tracker


@TRACKERS.register
def wandb(
    *,
    story: Story,
    known_id: str | None,
    project: str = "cnnlab",
    mode: Literal["online", "offline", "disabled"] | None = None,
) -> Tracker:
    """Weights & Biases."""
    return WeightsAndBiases(story, project, mode)


class WeightsAndBiases:
    def __init__(self, story: Story, project: str, mode: str | None):
        import wandb

        self.id = story.id
        self._wandb = wandb
        self._run: Any = wandb.init(
            project=project,
            id=story.id,
            resume="allow",
            name=f"{story.experiment}/{story.name}",
            group=story.group,
            config={**story.parameters, "git_commit": story.commit},
            dir=str(story.path),
            mode=mode,
        )

    def log_row(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def log_pictures(self, paths: list[Path]) -> None:
        self._run.log({path.stem: self._wandb.Image(str(path)) for path in paths})

    def end(self, status: str, values: Mapping[str, float], step: int) -> None:
        self._run.summary.update({**values, "status": status})
        self._run.finish(exit_code=0 if status in ("completed", "pruned") else 1)
