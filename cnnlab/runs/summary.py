"""summary.json: how a run stands, and the numbers that it ends with.

What was earned stays until there is better: an attempt to go on with a run that fails before its first step leaves
the status and the numbers as they are, and is told beside them.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

import cnnlab
from cnnlab.distributed import is_main, num_processes
from cnnlab.engine.evaluate import BatchSource
from cnnlab.engine.loop import select
from cnnlab.engine.peak import measure_product_peak
from cnnlab.engine.state import State
from cnnlab.engine.step import Training
from cnnlab.errors import CnnlabError, Interrupted, Pruned, StorageError
from cnnlab.experiment.training import Experiment
from cnnlab.runs.directory import RunDirectory

PEAK_SECONDS = 0.3  # for measuring the machine's peak
LONG_BESIDE_PEAK = 10.0  # seconds of steps
MAX_LOOKED_AT = 20  # epochs


class Summary:
    """Context in which a run is carried out. However it ends, summary.json says so.

    The status is then completed, pruned, interrupted or failed. Errors pass through. The last line printed names the
    directory.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        self.facts: dict[str, Any] = run.read_json(run.summary)
        # A new directory has nothing to lose; one that was killed says that it is running still.
        self._has_begun = self.facts.get("status", "running") == "running"

    def begin(self, **facts: Any) -> None:
        """From now on this attempt is the run: what it earns replaces what there was."""
        self._has_begun = True
        self.facts = {key: value for key, value in self.facts.items() if key not in ("chosen", "last_attempt")}
        self.facts |= {"cnnlab": cnnlab.__version__, "status": "running", "reason": None, **facts}
        self.write()

    def update(self, **facts: Any) -> None:
        self.facts |= facts

    def update_numbers(self, **numbers: Any) -> None:
        """What `summarize` tells. The test of earlier weights is none of others."""
        result = numbers["best"] or numbers["final"]
        if result != (self.facts.get("best") or self.facts.get("final")):
            self.facts["test"] = None
        self.facts |= {"test": None, **self.facts, **numbers}

    def write(self) -> None:
        self.run.write_json(self.run.summary, self.facts)

    def write_or_overwrite(self) -> None:
        """On a full disk in the place of what there is: how a run ended is told there too. Raises StorageError."""
        try:
            self.write()
        except StorageError:
            self.run.write_over(self.run.summary, json.dumps(self.facts, indent=2) + "\n")

    def __enter__(self) -> Summary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not is_main():
            return
        end = {"status": "completed"} if error is None else describe_end(error)
        if error is None or self._has_begun:
            self.facts |= end
        else:
            self.facts["last_attempt"] = {**end, "time": datetime.now().isoformat(" ", "seconds")}
        try:
            self.write_or_overwrite()
        except StorageError as full:
            if error is None:
                raise
            print(f"cnnlab: {full}", file=sys.stderr)  # the error under way is the one to tell
        finally:
            if isinstance(error, (Interrupted, KeyboardInterrupt)):
                print(f"stopped; go on with: cnnlab resume {self.run}")
            print(f"run directory: {self.run}", flush=True)


def describe_end(error: BaseException) -> dict[str, str]:
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return {"status": "interrupted", "reason": str(error)}
    if isinstance(error, Pruned):
        return {"status": "pruned", "reason": str(error)}
    reason = str(error) if isinstance(error, CnnlabError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "reason": reason}


# --- Numbers ------------------------------------------------------------------------------------------


def summarize(state: State, experiment: Experiment) -> dict[str, Any]:
    """The numbers that training itself gives."""
    training = experiment.training
    parts = {"train": training.train, "valid": training.valid, "test": experiment.test}
    return {
        "best": select(state, experiment.plan.select_by),
        "final": state.rows[-1] if state.rows else None,
        "totals": {
            "steps": state.step,
            "epochs": state.step / len(training.train),
            "examples": count_examples(state.step, training.train),
            "seconds": round(state.seconds, 3),
        },
        "images": {part: batches.num_examples if batches else 0 for part, batches in parts.items()},
        "processes": num_processes(),
        "peak_memory_mb": measure_peak_memory(training.device),
    }


def count_examples(num_steps: int, train: BatchSource) -> int:
    """The images of so many steps from the beginning of a run."""
    epochs, rest = divmod(num_steps, len(train))
    return epochs * train.num_examples + rest * train.batch_size


def describe_speed(first_step: int, last_step: int, experiment: Experiment) -> dict[str, Any] | None:
    """Images and multiply-adds per second since `first_step`, and where the time of a step went.

    The machine's peak is measured for runs that are long beside the moment it takes; None without a step.
    """
    training = experiment.training
    parts = training.times.read()
    seconds, num_steps = sum(parts.values()), last_step - first_step
    if num_steps == 0:
        return None
    num_images = count_examples(last_step, training.train) - count_examples(first_step, training.train)
    speed: dict[str, Any] = {
        "images_per_second": round(num_images / seconds, 1),
        "step_milliseconds": {part: round(1000 * taken / num_steps, 3) for part, taken in parts.items()},
        "multiply_adds_per_second": None,
        "share_of_peak": None,
    }
    if seconds > LONG_BESIDE_PEAK:
        work = count_work(training, first_step, last_step) * num_images / seconds
        compute = training.network.compute
        peak = None
        if compute.convolution != "winograd":  # which leaves out much of the work, all of which is counted
            peak = measure_product_peak(training.device, compute.precision, PEAK_SECONDS)
        share = work / num_processes() / peak if peak else None  # each process has a peak of its own
        if share is not None and share <= 1:  # more: something else computed while the peak was measured
            speed["share_of_peak"] = float(f"{share:.3g}")
        speed["multiply_adds_per_second"] = round(work)
    return speed


def count_work(training: Training, first_step: int, last_step: int) -> float:
    """Multiply-adds an image in these steps: the mean over some of their epochs.

    Images of one epoch may be larger than those of another: see the augmentation small_at_first.
    """
    # With torch's counter, which takes a while to import.
    from cnnlab.models.summary import count_forward_work, count_training_work

    first, last = first_step // len(training.train), (last_step - 1) // len(training.train)
    epochs = range(first, last + 1, 1 + (last - first) // MAX_LOOKED_AT)
    works: dict[torch.Size, int] = {}
    total = 0
    for epoch in epochs:  # one batch at a time in memory
        one = training.train.batch(epoch, 0)[0][:1]
        if one.shape not in works:
            works[one.shape] = count_training_work(training.model, one)
            if training.learn_hardest is not None:  # all are looked at, and a share is learned from
                learned = training.learn_hardest * works[one.shape]
                works[one.shape] = round(count_forward_work(training.model, one) + learned)
        total += works[one.shape]
    return total / len(epochs)


def measure_peak_memory(device: torch.device) -> dict[str, float | None]:
    """The most memory that has been held, in MB (10⁶ bytes): by this process, and on the accelerator."""
    on_device = round(torch.cuda.max_memory_allocated(device) / 1e6, 1) if device.type == "cuda" else None
    return {"process": peak_process_memory(), "device": on_device}


def peak_process_memory() -> float | None:
    """In MB; None on systems that do not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its getrusage counts the process that started this one as well
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
