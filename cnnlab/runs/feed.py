"""What a run tells its trackers, from a thread beside it: they may be slow, down or missing, and the run goes on.

trackers.json has by which id each tracker knows the run and the last step that it was told of: a resumed run goes on
there, and epochs that are trained again are not told again.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from cnnlab.config import Config
from cnnlab.distributed import is_main
from cnnlab.errors import CnnlabError, printable
from cnnlab.runs.directory import RunDirectory
from cnnlab.signature import as_yaml, flatten
from cnnlab.trackers import Story, Tracker

SECONDS_AT_END = 10.0  # for all trackers together to finish what they were told
Row = Mapping[str, Any]


class Feed:
    """Context of a run that tells its trackers of each epoch, and after its end how it ended. Never raises."""

    def __init__(self, run: RunDirectory, config: Config):
        chosen = config.logger.components if is_main() else ()
        self._run = run
        self._lines = [Line(run, component.name, component.bind()) for component in chosen]
        self._config = config

    def begin(self, rows: Sequence[Row]) -> None:
        """With the rows there are already, once the run's files tell what it is."""
        if self._lines:
            story = tell_story(self._run, self._config)
            for line in self._lines:
                line.post(partial(line.start, story))
        for row in rows:
            self.tell(row)

    def tell(self, row: Row) -> None:
        for line in self._lines:
            line.post(partial(line.log_row, row))

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.post(line.end)
        deadline = time.monotonic() + SECONDS_AT_END
        for line in self._lines:
            line.close(deadline)


class Line:
    """One tracker and its thread. After the first failure it hears nothing more, which is told once."""

    def __init__(self, run: RunDirectory, name: str, build: Callable[..., Tracker]):
        self._run, self._name, self._build = run, name, build
        self._tracker: Tracker | None = None
        self._last_step = 0
        self._posted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._has_failed = False
        self._thread = threading.Thread(target=self._work, name=f"cnnlab {name}", daemon=True)
        self._thread.start()

    def post(self, deed: Callable[[], None]) -> None:
        self._posted.put(deed)

    def close(self, deadline: float) -> None:
        """Wait for what was posted, at most until then."""
        self._posted.put(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._warn(f"is not through after {SECONDS_AT_END:g} s")

    def _work(self) -> None:
        while (deed := self._posted.get()) is not None:
            if self._has_failed:
                continue
            try:
                deed()
            except BaseException as error:  # of any kind, SystemExit too: the run is not the tracker's
                self._warn(f"{type(error).__name__}: {error}")

    def _warn(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            (line, *_) = printable(reason, keep="\n").splitlines() or [""]
            told = f"warning: logger {self._name}: {line}; nothing more is sent to it, the run goes on"
            print(told, file=sys.stderr, flush=True)

    # --- In the thread ------------------------------------------------------------------------------

    def start(self, story: Story) -> None:
        known = self._read_known()
        self._tracker = self._build(story=story, known_id=known.get("id"))
        self._last_step = known.get("last_step", 0)
        self._remember()

    def log_row(self, row: Row) -> None:
        if self._tracker is None or row["step"] <= self._last_step:
            return
        self._tracker.log_row(row["step"], find_numbers(row))
        self._last_step = row["step"]
        self._remember()

    def end(self) -> None:
        """After summary.json was written for the last time."""
        if self._tracker is None:
            return
        summary = self._run.read_json(self._run.summary)
        self._tracker.log_pictures(sorted(self._run.curves.parent.glob("*.png")))
        test = {f"test_{name}": value for name, value in (summary.get("test") or {}).items()}
        self._tracker.end(str(summary.get("status")), find_numbers(test), self._last_step)

    def _read_known(self) -> dict[str, Any]:
        try:
            known = self._run.read_json(self._run.trackers).get(self._name)
        except CnnlabError:
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self) -> None:
        assert self._tracker is not None, "after its start"
        with _REMEMBERING:
            try:
                known = self._run.read_json(self._run.trackers)
            except CnnlabError:  # damaged: made anew
                known = {}
            known[self._name] = {"id": self._tracker.id, "last_step": self._last_step}
            self._run.write_json(self._run.trackers, known)


_REMEMBERING = threading.Lock()  # several threads write the one file


def find_numbers(row: Row) -> dict[str, float]:
    """What can be drawn: no empty cells, and not the step, by which it is drawn."""
    return {key: float(v) for key, v in row.items() if isinstance(v, (int, float)) and key != "step"}


def tell_story(run: RunDirectory, config: Config) -> Story:
    """What a tracker is told of a run before its first epoch."""
    path = run.path.resolve()
    is_part = (path.parent / "sweep.yaml").is_file() or (path.parent / run.config.name).is_file()
    return Story(
        path=path,
        id=run.read_id() or path.name,
        experiment=config.name,
        name=f"{path.parent.name}/{path.name}" if is_part else path.name,
        group=path.parent.name if is_part else None,
        parameters=flatten(as_yaml(config)),
        commit=run.read_json(run.environment).get("git_commit"),
    )
