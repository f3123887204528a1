"""What a run tells: lines on the screen and in train.log, a progress bar, metrics.csv, checkpoints."""

from __future__ import annotations

import logging
import sys
from typing import Any

from cnnlab.engine.checkpoint import save_checkpoint
from cnnlab.engine.state import State
from cnnlab.runs.directory import RunDirectory


class Silence:
    """The journal of processes beside the main one: they say and write nothing."""

    def start_bar(self, step: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def stop_bar(self) -> None:
        pass

    def close(self) -> None:
        pass

    def count_step(self) -> None:
        pass

    def show_step(self, state: State, epoch: int, loss: float, lr: float) -> None:
        pass

    def show_epoch(self, state: State) -> None:
        pass

    def save_best(self, contents: dict[str, Any]) -> None:
        pass

    def save_last(self, contents: dict[str, Any]) -> None:
        pass


class Journal:
    """The loop's reports, written into a run directory.

    On a terminal one bar shows the steps, with the epochs' lines above it. Where the output goes to a
    file or a pipe there is no bar: only the lines, one an epoch.
    """

    def __init__(self, run: RunDirectory, config: dict[str, Any], num_steps: int, num_epochs: int):
        self.run = run
        self.config = config
        self.num_epochs = num_epochs
        self.num_steps = num_steps
        self._bar: Any = None
        self._log = logging.Logger(f"cnnlab {run}")  # its own: no handler of another run hears it
        handler = logging.FileHandler(run.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        self._log.addHandler(handler)

    def start_bar(self, step: int) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.num_steps, initial=step, unit="step", dynamic_ncols=True, leave=False)

    def say(self, text: str) -> None:
        """A line for the reader and for train.log."""
        self._log.info(text)
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def close(self) -> None:
        for handler in self._log.handlers:
            handler.close()
        self._log.handlers.clear()

    # --- What the loop calls ------------------------------------------------------------------------

    def count_step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def show_step(self, state: State, epoch: int, loss: float, lr: float) -> None:
        self._log.info(f"epoch {epoch} step {state.step} loss {loss:.6f} lr {lr:g}")
        if self._bar is not None:
            self._bar.set_postfix(epoch=f"{epoch}/{self.num_epochs}", loss=f"{loss:.4f}", refresh=False)

    def show_epoch(self, state: State) -> None:
        self.run.write_metrics(state.rows)
        row = state.rows[-1]
        metric = "mae" if "train_mae" in row else "accuracy"
        parts = [
            f"epoch {row['epoch']:>{len(str(self.num_epochs))}}/{self.num_epochs}",
            f"train loss {row['train_loss']:.4f} {metric} {row[f'train_{metric}']:.4f}",
        ]
        if row["valid_loss"] is not None:
            parts.append(f"valid loss {row['valid_loss']:.4f} {metric} {row[f'valid_{metric}']:.4f}")
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        if state.best is row:
            parts.append("best so far")
        self.say(" | ".join(parts))

    def save_best(self, contents: dict[str, Any]) -> None:
        save_checkpoint(self.run.best, {**contents, "config": self.config})

    def save_last(self, contents: dict[str, Any]) -> None:
        save_checkpoint(self.run.last, {**contents, "config": self.config}, keep=self.run.previous)
