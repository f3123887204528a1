"""Processes that work beside another do not outlive it."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from cnnlab.threads import die_with_parent


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
