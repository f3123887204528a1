"""What is printed may be lost; what is computed is not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from cnnlab.streams import Lasting, lasting_output
from tests.conftest import only_run

TRAIN = [sys.executable, "-m", "cnnlab.cli", "train", "plots=off", "engine.threads=1", "model=linear"]


class Full(io.StringIO):
    """A disk without room."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_what_cannot_be_written_is_lost():
    stream = Lasting(Full())
    assert stream.write("text") == 4
    stream.flush()
    assert not stream.isatty()


def test_inside_a_block_alone(monkeypatch):
    full = Full()
    monkeypatch.setattr(sys, "stdout", full)
    with lasting_output():
        print("lost")
    assert sys.stdout is full
    with pytest.raises(OSError, match="No space"):
        print("told")


@pytest.mark.skipif(sys.platform != "linux", reason="its shell and its /dev/full")
@pytest.mark.parametrize("redirection", ["| head -1", "> /dev/full", "2>&-", ">&-", "<&-"])
def test_a_run_ends_well_whoever_reads_what_it_prints(tmp_path, redirection):
    command = " ".join([*TRAIN, "epochs=3", f"output_dir={tmp_path}", redirection])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=120, env=os.environ
    )
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "completed" and done.returncode == 0
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
