"""TensorBoard: event files in the run's own directory, which it shows as a run by that name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlab.trackers.registry import TRACKERS, Story, Tracker


@TRACKERS.register
def tensorboard(*, story: Story, known_id: str | None) -> Tracker:
    """TensorBoard's event files."""
    return TensorBoard(story, is_new=known_id is None)


class TensorBoard:
    def __init__(self, story: Story, is_new: bool):
        from torch.utils.tensorboard import SummaryWriter

        self.id = story.id
        self._parameters = {key: as_plain(value) for key, value in story.parameters.items()}
        self._writer: Any = SummaryWriter(story.path / "tensorboard")
        if is_new:
            rows = [f"| {key} | {str(value).replace('|', '&#124;')} |" for key, value in self._parameters.items()]
            table = "\n".join(["| parameter | value |", "| --- | --- |", *rows])
            self._writer.add_text("parameters", table)
            self._writer.add_text("git commit", story.commit or "unknown")

    def log_row(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_pictures(self, paths: list[Path]) -> None:
        import numpy as np
        from PIL import Image

        for path in paths:
            with Image.open(path) as picture:
                self._writer.add_image(path.stem, np.asarray(picture.convert("RGB")), dataformats="HWC")

    def end(self, status: str, values: Mapping[str, float], step: int) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.log_row(step, values)
        for summary in hparams(self._parameters | {"status": status}, dict(values)):
            self._writer.file_writer.add_summary(summary)
        self._writer.close()


def as_plain(value: Any) -> bool | float | str:
    """What the plugin for hyperparameters takes."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
