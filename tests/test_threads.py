"""Processes that work beside another do not outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from cnnlab import threads
from cnnlab.threads import Work, die_with_parent, others_compute, seconds_worked, work_at_start


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own way")
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_child_whose_parent_has_ended_ends_too(has_ended):
    """Also if that was killed right after it had forked the child off, before this could ask for anything."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(parent + 1 if has_ended else parent)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) == has_ended and (not has_ended or os.WTERMSIG(status) == signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own way")
@pytest.mark.parametrize("just_started", [0.0, 1e9])
def test_a_process_that_computes_beside_this_one_is_seen(monkeypatch, just_started):
    monkeypatch.setattr(threads, "JUST_STARTED", just_started)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            work_at_start.cache_clear()
            work_at_start()
            assert any(others_compute() for _ in range(50))
        finally:
            other.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own way")
def test_what_this_process_does_itself_is_no_others(monkeypatch):
    """It computes in the place of waiting; the cores have worked for as long, or for ten times that."""
    worked = {"seconds": 0.0, "share": 1.0}

    def compute(seconds: float) -> None:
        begin = time.process_time()
        while time.process_time() < begin + seconds:
            pass
        worked["seconds"] += worked["share"] * seconds

    monkeypatch.setattr(threads, "seconds_worked", lambda: worked["seconds"])
    monkeypatch.setattr(time, "sleep", compute)
    monkeypatch.setattr(threads, "JUST_STARTED", 0.0)
    assert not threads.others_compute()
    worked["share"] = 10.0
    assert threads.others_compute()


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own way")
def test_what_processes_did_that_this_one_has_waited_for_is_its_own():
    before = Work.read()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert Work.read().own - before.own > 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own way")
def test_a_forked_process_starts_anew():
    """What its parent did before is not counted against it."""
    start = work_at_start()
    child = os.fork()
    if child == 0:
        os._exit(0 if work_at_start().time > start.time and work_at_start().own < 0.2 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own way")
def test_the_cores_work_longer_when_something_works():
    before, own = seconds_worked(), time.process_time()
    while time.process_time() - own < 0.2:
        pass
    assert seconds_worked() - before > 0.15
