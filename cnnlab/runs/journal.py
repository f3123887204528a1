"""What a run tells: lines on the screen and in train.log, a progress bar, metrics.csv, checkpoints."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from cnnlab.engine.checkpoint import save_checkpoint
from cnnlab.engine.state import State
from cnnlab.progress import EVERY
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.feed import Feed


class LogFile(logging.FileHandler):
    """train.log. Lines that cannot be written, on a full disk, are left out, which is said once."""

    _has_failed = False

    def handleError(self, record: object = None) -> None:
        if not self._has_failed:
            self._has_failed = True
            print(f"{self.baseFilename}: cannot be written ({sys.exc_info()[1]}); the run goes on", file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()  # which writes what could not be written before
        except OSError:
            self.handleError()


class Journal:
    """The loop's reports, written into a run directory. Of many processes one `speaks`, the others keep silent.

    On a terminal one bar shows the steps, with the epochs' lines above it. Where the output goes to a
    file or a pipe there is no bar: only the lines, one an epoch and, in a long one, one now and then.
    """

    def __init__(
        self,
        run: RunDirectory,
        origin: dict[str, Any],
        num_steps: int,
        num_epochs: int,
        speaks: bool = True,
        feed: Feed | None = None,
    ):
        self.run = run
        self._feed = feed
        self.origin = origin  # what a checkpoint says of itself
        self.num_epochs = num_epochs
        self.num_steps = num_steps
        self._speaks = speaks
        self._bar: Any = None
        self._spoke = time.monotonic()
        self._log = logging.Logger(f"cnnlab {run}")  # its own: no handler of another run hears it
        if speaks:
            handler = LogFile(run.log, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
            self._log.addHandler(handler)

    def start_bar(self, step: int) -> None:
        if self._speaks and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.num_steps, initial=step, unit="step", dynamic_ncols=True, leave=False)

    def say(self, text: str) -> None:
        """A line for the reader and for train.log."""
        self._log.info(text)
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        elif self._speaks:
            print(text, flush=True)
        self._spoke = time.monotonic()

    def stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def close(self) -> None:
        for handler in self._log.handlers:
            handler.close()
        self._log.handlers.clear()

    # --- What the loop calls ------------------------------------------------------------------------

    def begin(self, state: State) -> None:
        self.run.write_metrics(state.rows)

    def count_step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def show_step(self, state: State, epoch: int, loss: float, means: dict[str, float], lr: float) -> None:
        """The loss of the last batch, and beside it the means over all batches since the line before."""
        mean = " ".join(f"{name} {value:.6f}" for name, value in means.items())
        self._log.info(
            f"epoch {epoch} step {state.step} loss {loss:.6f} | mean since the last line: {mean} | lr {lr:g}"
        )
        if self._bar is not None:
            self._bar.set_postfix(epoch=f"{epoch}/{self.num_epochs}", loss=f"{loss:.4f}", refresh=False)
        elif self._speaks and time.monotonic() - self._spoke >= EVERY:
            print(f"epoch {epoch}/{self.num_epochs}, step {state.step:,} of {self.num_steps:,}: {mean}", flush=True)
            self._spoke = time.monotonic()

    def show_epoch(self, state: State) -> None:
        row = state.rows[-1]
        self.run.append_metrics(row)
        if self._feed is not None:
            self._feed.tell(row)
        parts = [f"epoch {row['epoch']:>{len(str(self.num_epochs))}}/{self.num_epochs}"]
        for part in ("train", "valid"):
            values = {column.partition("_")[2]: row[column] for column in row if column.startswith(f"{part}_")}
            if values["loss"] is not None:
                shown = [f"{name} {value:.4f}" for name, value in values.items() if name != "log_loss"]
                parts.append(f"{part} {' '.join(shown)}")
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        if state.best is row:
            never = len(state.best_never_predicted)
            parts.append("best so far" + (f", {never} of the classes never predicted" if never else ""))
        self.say(" | ".join(parts))

    def save_best(self, contents: dict[str, Any]) -> None:
        if self._speaks:
            save_checkpoint(self.run.best, {**contents, **self.origin})

    def save_last(self, contents: dict[str, Any]) -> None:
        if self._speaks:
            save_checkpoint(self.run.last, {**contents, **self.origin}, keep=self.run.previous)
