"""What an epoch costs after 100,000 others, beside one after the first: rows, checkpoints and schedules do not slow it.

    python -m tests.benchmarks.epochs [--rounds N] [--epochs N] [--past N]

A linear network over the embedded digits, a checkpoint each epoch. The past is made up: of a run of one epoch, whose
weights stay, the table and the checkpoint are written as they would be after `--past` epochs. So both runs take the
same steps, and only what lies before differs. The times are those of metrics.csv, between the ends of the first
and the last of the epochs that are added; the two ways take turns. What going on takes beside its epochs (reading
and writing the table once) stands in a column of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from cnnlab.config import parse
from cnnlab.engine.checkpoint import load_checkpoint, save_checkpoint
from cnnlab.runs import training
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import resume, start
from tests.conftest import compose_tree

TINY = ["model=linear", "batch_size=500", "dataset.image_size=8", "epochs=1", "engine.device=cpu", "engine.threads=1"]
SCHEDULES = {
    "constant": ["schedule=constant"],
    "reduce_on_plateau": ["schedule=reduce_on_plateau", "schedule.final=0.5"],
}


def make_past(source: RunDirectory, path: Path, num_epochs: int) -> RunDirectory:
    """A copy of a run of one epoch that has taken `num_epochs`, none of which is bettered by what follows."""
    run = RunDirectory(shutil.copytree(source.path, path))
    snapshot, (first,) = load_checkpoint(run.last), run.read_metrics()
    rows = [
        {**first, "epoch": epoch, "step": epoch * first["step"], "valid_loss": 1 / epoch, "valid_accuracy": 1.0}
        for epoch in range(1, num_epochs + 1)
    ]
    run.write_metrics(rows)
    snapshot["state"] |= {"step": rows[-1]["step"], "num_rows": num_epochs, "best": rows[0], "last_row": rows[-1]}
    save_checkpoint(run.last, snapshot)
    save_checkpoint(run.best, load_checkpoint(run.best) | {"row": rows[0]})
    return run


def go_on(run: RunDirectory, num_more: int) -> tuple[float, float]:
    """Seconds of `num_more` epochs and one, the first being left out, and of all the rest."""
    num_past, begin = len(run.read_metrics()), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        resume(str(run.path), [f"epochs={num_past + num_more + 1}"])
    whole = time.perf_counter() - begin
    added = run.read_metrics()[num_past:]
    assert len(added) == num_more + 1
    seconds = added[-1]["seconds"] - added[0]["seconds"]
    return seconds, whole - seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=300, help="that are timed")
    parser.add_argument("--past", type=int, default=100_000, help="epochs before")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training.draw_pictures = lambda *arguments: None  # drawn once a run, not once an epoch
    pasts = (1, arguments.past)
    print(f"{'schedule':18} {'epochs before':>13} {'ms an epoch':>12} {'ratio':>6} {'seconds beside':>15}")
    for name, overrides in SCHEDULES.items():
        found: dict[int, list[tuple[float, float]]] = {past: [] for past in pasts}
        with tempfile.TemporaryDirectory() as temporary:
            with contextlib.redirect_stdout(io.StringIO()):
                one = start(parse(compose_tree(*TINY, *overrides, f"output_dir={temporary}/one")), [])
            for number in range(arguments.rounds):
                for past in pasts:
                    run = make_past(one, Path(temporary, f"{number}-{past}"), past)
                    found[past].append(go_on(run, arguments.epochs))
        for past, times in found.items():
            ratio = statistics.median(a / b for (a, _), (b, _) in zip(times, found[1], strict=True))
            each, beside = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{name:18} {past:13,} {1000 * each / arguments.epochs:12.2f} {ratio:6.2f} {beside:15.2f}")


if __name__ == "__main__":
    main()
