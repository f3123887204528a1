"""A sweep carried out: begun or gone on with, its trials beside each other, each told.

Every trial is a process of its own, forked from one that has loaded torch, so that neither memory nor a crash passes
from one to another. This process only waits and tells; whatever kills it, the trials stop at their next step with a
checkpoint, and `cnnlab sweep resume` goes on from there.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import yaml

from cnnlab.composition import read_overrides
from cnnlab.errors import ConfigError, FailedTrials, Interrupted
from cnnlab.metrics import is_higher_better
from cnnlab.sweeps.answers import describe_best, write_best, write_table
from cnnlab.sweeps.directory import Outcome, SweepDirectory, Trial
from cnnlab.sweeps.launching import launch
from cnnlab.sweeps.plan import (
    count_gpus,
    make_trials,
    plan_sweep,
    propose_all,
    read_axes,
    read_bases,
    require_sound,
    with_threads,
)
from cnnlab.sweeps.plots import draw_answers
from cnnlab.sweeps.processes import begin_server, begin_trial
from cnnlab.sweeps.proposals import Study
from cnnlab.sweeps.settings import parse_settings

TABLE_EVERY = 5.0  # seconds between two writings of trials.csv
LOST = 255  # what multiprocessing says of a process whose forkserver is gone, for instance by the same signal
POLL = 1.0  # seconds between two visits to what launched trials have left


def start_sweep(arguments: Sequence[str], folders: Sequence[Path]) -> int:
    """What `cnnlab train -m` does. Raises ConfigError with every problem of every trial, before anything is made."""
    sweep = plan_sweep(read_overrides(arguments), list(folders))
    print(f"sweep directory: {sweep}", flush=True)
    return carry_out(sweep)


def resume_sweep(path: str, overrides: Sequence[str]) -> int:
    """Finish what is unfinished; `sweep.trials=80` makes a search longer. Repeats and overwrites nothing."""
    sweep = SweepDirectory.open(path)
    plan = sweep.read_plan()
    with sweep.locked():
        changed = [text.partition("=") for text in overrides]
        known = ("trials", "workers", "on_failure", "max_time")
        wrong = [f"{key}{sign}{value}" for key, sign, value in changed if key.removeprefix("sweep.") not in known]
        if wrong:
            raise ConfigError(
                f"{' '.join(wrong)}: cannot change within a sweep; expected sweep.{', sweep.'.join(known)}"
            )
        given = {key.removeprefix("sweep."): yaml.safe_load(value) for key, _, value in changed}
        settings = parse_settings({**plan["settings"], **given})
        trials = sweep.read_trials()
        if settings.trials is not None and settings.trials * settings.seeds < len(trials):
            raise ConfigError(f"sweep.trials: {settings.trials} was given; the sweep has {len(trials)} trials already")
        if "trials" in given:
            require_sound(settings, read_axes(plan))
        if settings.searches == "random":
            axes, bases = read_axes(plan), read_bases(plan)
            first = len(trials) // settings.seeds
            more = make_trials(settings, bases, propose_all(settings, axes, first), first)
            sweep.add_trials(with_threads(more[len(trials) - first * settings.seeds :], plan["threads"]))
        if given:
            plan["settings"] |= given
            plan["workers"] = plan["workers"] if settings.workers == "auto" else settings.workers
            sweep.write_plan(plan)
        sweep.stop.unlink(missing_ok=True)
    return carry_out(sweep)


def carry_out(sweep: SweepDirectory) -> int:
    """Carry out every trial that has not ended; returns 0. Raises FailedTrials, or Interrupted."""
    with sweep.locked():
        return Conductor(sweep).conduct()


class Conductor:
    """Begins trials where there is room, notices how they end, and tells."""

    def __init__(self, sweep: SweepDirectory):
        self.sweep, self.plan = sweep, sweep.read_plan()
        self.settings = parse_settings(self.plan["settings"])
        self.metric: str = self.plan["metric"]
        self.trials = sweep.read_trials()
        told = sweep.read_outcomes()
        self.outcomes: dict[int, Outcome] = {
            trial.number: sweep.find_outcome(trial, self.metric, told) for trial in self.trials
        }
        self.axes = read_axes(self.plan)
        self.launcher: list[str] = self.plan.get("launcher") or []
        if not self.launcher and self.count_left():
            begin_server()
        learns = self.settings.searches not in (None, "random")
        self.study = Study(sweep, self.settings, self.axes, self.metric) if learns else None
        self.begun = time.monotonic()
        self.signum: int | None = None
        self.stops: str | None = None  # why no other trial is begun
        self.attempts: dict[int, int] = {}
        self.running: dict[int, BaseProcess] = {}
        self.slots: dict[int, int] = {}
        self.num_ended, self.written = 0, 0.0

    def conduct(self) -> int:
        self.sweep.log(0).parent.mkdir(exist_ok=True)
        for trial in self.trials[:: self.settings.seeds]:
            if self.study is not None:
                self.study.remember(trial.configuration, trial.values)
            self.tell_study(trial)
        with self.listening():
            if self.launcher:
                self.launch_trials()
            else:
                self.fork_trials()
        return self.finish()

    def fork_trials(self) -> None:
        """On this machine: so many at a time as there are workers."""
        while True:
            self.look_for_reasons_to_stop()
            while self.stops is None and len(self.running) < self.plan["workers"]:
                trial = self.choose_next()
                if trial is None:
                    break
                self.begin(trial)
                self.look_for_reasons_to_stop()  # the first to begin has waited for torch to be loaded
            if not self.running:
                break
            if len(self.running) < self.plan["workers"]:
                load_libraries()  # a core has nothing to do while the last trials end
            connection.wait([process.sentinel for process in self.running.values()], timeout=0.5)
            self.look_for_reasons_to_stop()  # by which trials may have ended just now
            for number, process in list(self.running.items()):
                if not process.is_alive():
                    process.join()
                    del self.running[number], self.slots[number]
                    if self.end(number, None if process.exitcode == LOST else process.exitcode or 0):
                        self.begin(self.trials[number])

    def launch_trials(self) -> None:
        """Wherever a launcher of Hydra's carries them out: all at once, or as many as a search proposes at a time."""
        again: list[int] = []
        while self.stops is None:
            size = self.plan["workers"] if self.study else len(self.trials)
            batch, again = again, []
            while len(batch) < size and (trial := self.choose_next()) is not None:
                self.attempts[trial.number] = 0
                batch.append(trial.number)
            if not batch:
                break
            for number in batch:
                self.attempts[number] += 1
                self.sweep.exit_code(number).unlink(missing_ok=True)
                self.forget_kill(number)
            waiting, has_returned = list(batch), threading.Event()
            follower = threading.Thread(target=self.follow_launched, args=(waiting, again, has_returned))
            follower.start()
            try:
                launch(self.sweep, batch, self.launcher)
            except KeyboardInterrupt:  # of a process of the launcher's; ours is noted
                pass
            except Exception as error:  # whatever a launcher raises: what its trials left tells the rest
                self.say(f"{' '.join(self.launcher)}: {type(error).__name__}: {error}")
            finally:
                has_returned.set()
                follower.join()
            for number in waiting:
                if self.end(number, None):
                    again.append(number)

    def follow_launched(self, waiting: list[int], again: list[int], has_returned: threading.Event) -> None:
        """Tells of trials as they end, beside the launcher, which only returns when all have."""
        is_last = False
        while not is_last:
            is_last = has_returned.wait(POLL)
            self.look_for_reasons_to_stop()
            for number in list(waiting):
                code = self.sweep.read_exit_code(number)
                if code is not None:
                    waiting.remove(number)
                    if self.end(number, code):
                        again.append(number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM are noted, and passed on to the trials as one request to stop."""

        def note(signum: int, frame: FrameType | None) -> None:
            self.signum = signum

        previous = {signum: signal.signal(signum, note) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def look_for_reasons_to_stop(self) -> None:
        if self.stops is not None:
            return
        limit = self.settings.max_time
        if self.signum is not None:
            self.stops = f"stopped by {signal.Signals(self.signum).name}"
        elif self.sweep.stop.exists():
            self.stops = "stopped by cnnlab sweep stop"
        elif limit is not None and time.monotonic() - self.begun >= limit.seconds:
            self.stops = f"sweep.max_time is over after {limit}"
        else:
            return
        self.ask_to_stop()

    def ask_to_stop(self) -> None:
        """Trials that are under way, each for a checkpoint after its next step."""
        for process in self.running.values():
            process.terminate()
        if self.launcher:
            self.sweep.stop.touch()

    def choose_next(self) -> Trial | None:
        """The next trial that has not ended, a search's next proposal, or None."""
        for trial in self.trials:
            if trial.number in self.running or self.outcomes[trial.number].has_ended or trial.number in self.attempts:
                continue
            if self.has_been_pruned(trial):
                reason = "its configuration was pruned on another seed"
                self.sweep.add_outcome(trial.number, "pruned", reason)
                self.outcomes[trial.number] = Outcome("pruned", reason=reason)
                continue
            return trial
        if self.study is None or self.settings.trials is None:
            return None
        configuration = len(self.trials) // self.settings.seeds
        if configuration >= self.settings.trials:
            return None
        values = self.study.propose(configuration)
        made = make_trials(self.settings, read_bases(self.plan), [values], configuration)
        more = with_threads(made, self.plan["threads"])
        self.sweep.add_trials(more)
        self.trials += more
        self.outcomes |= {trial.number: Outcome("waiting") for trial in more}
        return more[0]

    def has_been_pruned(self, trial: Trial) -> bool:
        """Whether a trial that has not begun is of a configuration that ended early on another seed."""
        begun = self.outcomes[trial.number].status != "waiting"
        return not begun and any(self.outcomes[other.number].status == "pruned" for other in self.siblings(trial))

    def siblings(self, trial: Trial) -> list[Trial]:
        """The trials of the same configuration, which stand one after the other."""
        first = trial.configuration * self.settings.seeds
        return self.trials[first : first + self.settings.seeds]

    def forget_kill(self, number: int) -> None:
        """A trial that was killed goes on: what was told of it is over."""
        if self.outcomes[number].status == "killed":
            self.sweep.add_outcome(number, "running", "goes on after it was killed")

    def begin(self, trial: Trial) -> None:
        self.forget_kill(trial.number)
        slot = next(slot for slot in itertools.count() if slot not in self.slots.values())
        gpus = count_gpus() if self.plan["device"] == "cuda" else 0
        is_free = gpus > 0 and trial.config["engine"]["device"] in ("auto", "cuda")
        try:
            process = begin_trial(str(self.sweep), trial.number, slot % gpus if is_free else None)
        except (EOFError, ConnectionError):
            if self.signum is None:
                raise
            return  # what trials are forked from has ended by the same signal
        self.running[trial.number], self.slots[trial.number] = process, slot
        self.attempts[trial.number] = self.attempts.get(trial.number, 0) + 1

    def end(self, number: int, code: int | None) -> bool:
        """Note how a trial has ended, and tell it in a line; returns whether it is to be tried again.

        `code` is the exit code of its process; None where what began it is gone and does not tell.
        """
        trial = self.trials[number]
        asked = (None, -signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)
        was_asked = self.stops is not None and code in asked
        if code != 0 and not was_asked:
            if self.attempts[number] <= self.settings.on_failure.num_retries:
                self.say(f"trial {number} {describe_code(code)}, and is tried again")
                return True
            has_told = code is not None and code > 0
            reason = has_told and read_end(self.sweep.log(number)) or describe_code(code)
            self.sweep.add_outcome(number, "failed" if has_told else "killed", reason)
            if self.settings.on_failure.stops:
                self.stops = f"trial {number} failed, and sweep.on_failure is stop"
                self.ask_to_stop()
        self.outcomes[number] = self.sweep.find_outcome(trial, self.metric, self.sweep.read_outcomes())
        self.num_ended += 1
        self.tell_study(trial)
        self.say(self.describe(trial))
        if time.monotonic() - self.written > TABLE_EVERY:
            write_table(self.sweep, self.trials, self.outcomes, self.metric)
            self.written = time.monotonic()
        return False

    def tell_study(self, trial: Trial) -> None:
        """The mean over seeds of a trial's configuration, once all of them are through."""
        if self.study is None:
            return
        outcomes = [self.outcomes[other.number] for other in self.siblings(trial)]
        if all(outcome.has_ended or outcome.status == "killed" for outcome in outcomes):
            scores = [outcome.score for outcome in outcomes if outcome.score is not None]
            failed = any(outcome.status in ("failed", "killed") for outcome in outcomes)
            self.study.learn(trial.configuration, None if failed or not scores else sum(scores) / len(scores))

    # --- Told -------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        print(text, flush=True)

    def describe(self, trial: Trial) -> str:
        outcome = self.outcomes[trial.number]
        label = " ".join([*trial.values, *([f"seed={trial.seed}"] if self.settings.seeds > 1 else [])])
        parts = [f"trial {trial.number}{f' ({label})' if label else ''} {outcome.status}"]
        if outcome.reason:
            parts[0] += f": {outcome.reason}"
        if outcome.score is not None:
            parts.append(f"{self.metric} {outcome.score:.4f}")
        scores = {n: o.score for n, o in self.outcomes.items() if o.score is not None and o.status != "failed"}
        if scores:
            pick = max if is_higher_better(self.metric) else min
            best = pick(scores, key=lambda number: scores[number])
            parts.append(f"best {scores[best]:.4f} (trial {best})")
        left = self.count_left()
        if left:
            seconds = (time.monotonic() - self.begun) / self.num_ended * left
            parts.append(f"{left} left, about {describe_seconds(seconds)}")
        return " | ".join(parts)

    def count_left(self) -> int:
        total = max(len(self.trials), (self.settings.trials or 0) * self.settings.seeds)
        return total - sum(outcome.has_ended or outcome.status == "killed" for outcome in self.outcomes.values())

    def finish(self) -> int:
        """The table, the best configuration, pictures, and the last lines. Raises FailedTrials or Interrupted."""
        write_table(self.sweep, self.trials, self.outcomes, self.metric)
        self.say(describe_best(self.sweep, self.trials, self.outcomes, self.metric))
        write_best(self.sweep, self.trials, self.outcomes, self.metric, self.plan["overrides"])
        if self.num_ended or not self.sweep.plots.is_dir():
            draw_answers(self.sweep, self.trials, self.outcomes, self.metric, self.axes)
        self.say(f"sweep directory: {self.sweep}")
        left = self.count_left()
        if self.stops is not None and left:
            self.say(f"{self.stops}; {left} trials are left, go on with: cnnlab sweep resume {self.sweep}")
        if self.signum is not None:
            raise Interrupted(self.signum)
        failed = [number for number, outcome in self.outcomes.items() if outcome.status in ("failed", "killed")]
        if failed:
            reasons = "\n".join(f"  trial {number}: {self.outcomes[number].reason}" for number in failed[:10])
            raise FailedTrials(f"{len(failed)} of {len(self.trials)} trials failed:\n{reasons}")
        return 0


def load_libraries() -> None:
    """What the answers are told and drawn with, and no trial before them."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import pandas  # noqa: F401


def describe_code(code: int | None) -> str:
    if code is None:
        return "was lost: what began its process is gone"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def describe_seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def read_end(path: Path) -> str | None:
    """The last line that says something."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    said = [line for line in lines if line and not line.startswith("run directory:")]
    return said[-1].removeprefix("cnnlab: ") if said else None
