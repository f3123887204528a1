from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys

import pytest
import torch

from cnnlab.composition import CONF
from cnnlab.engine.checkpoint import load_checkpoint, load_newest, save_checkpoint
from cnnlab.errors import CheckpointError, StorageError

CONTENTS = {"model": {"weight": torch.randn(300, 40)}, "state": {"step": 3, "best": {"a": None}}}


def snapshot(step: int) -> dict:
    return {"model": {}, "optimizer": {}, "average": {}, "state": {"step": step, "num_rows": 0}}


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "x.pt", CONTENTS)
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert torch.equal(loaded["model"]["weight"], CONTENTS["model"]["weight"])
    assert loaded["state"] == CONTENTS["state"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_file_is_recognised(tmp_path, share):
    path = tmp_path / "x.pt"
    save_checkpoint(path, CONTENTS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)


def test_any_altered_byte_is_recognised_or_harmless(tmp_path):
    path = tmp_path / "x.pt"
    save_checkpoint(path, CONTENTS)
    whole = path.read_bytes()
    rng = random.Random(0)
    num_recognised = 0
    for _ in range(200):
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            num_recognised += 1
        else:  # padding between the records, or a time stamp
            assert torch.equal(loaded["model"]["weight"], CONTENTS["model"]["weight"])
    assert num_recognised > 190


class Harmful:
    def __reduce__(self):
        return os.system, ("touch code_ran",)


def test_code_in_a_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Harmful()}, "x.pt")
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(tmp_path / "x.pt")
    assert not (tmp_path / "code_ran").exists()


def test_the_one_before_is_used_when_the_last_is_torn(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for step in (1, 2):
        save_checkpoint(last, snapshot(step), keep=previous)
    last.write_bytes(last.read_bytes()[:100])
    contents, problems = load_newest([last, previous], "cpu")
    assert contents["state"]["step"] == 1 and len(problems) == 1 and "last.pt: truncated" in problems[0]
    previous.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        load_newest([last, previous], "cpu")
    assert load_newest([tmp_path / "none.pt"], "cpu") == (None, [])


def test_a_full_disk_is_said_and_loses_nothing(tmp_path):
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # a file may not grow past this
        with pytest.raises(StorageError, match="could not be written"):
            save_checkpoint(path, CONTENTS, keep=tmp_path / "previous.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("moment", ["fsync", "replace 1", "replace 2", "fsync 2"])
def test_sigkill_inside_the_writing_leaves_a_whole_checkpoint(tmp_path, moment):
    """A process that dies right before each of the steps of writing."""
    script = f"""
import os, signal, torch
from pathlib import Path
from cnnlab.engine.checkpoint import save_checkpoint
from tests.engine.test_checkpoint import snapshot
folder = Path({str(tmp_path)!r})
for step in (1, 2):
    save_checkpoint(folder / "last.pt", snapshot(step), keep=folder / "previous.pt")
calls = {{"fsync": 0, "replace": 0}}
def dying(name, function):
    def call(*arguments):
        calls[name] += 1
        if f"{{name}} {{calls[name]}}" in ({moment!r}, {moment!r} + " 1"):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
os.fsync, os.replace = dying("fsync", os.fsync), dying("replace", os.replace)
save_checkpoint(folder / "last.pt", snapshot(3), keep=folder / "previous.pt")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=CONF.parent, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    contents, problems = load_newest([tmp_path / "last.pt", tmp_path / "previous.pt"], "cpu")
    assert contents["state"]["step"] == (3 if moment == "fsync 2" else 2) and not problems
