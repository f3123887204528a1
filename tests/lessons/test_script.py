"""What --code prints: a script that needs torch alone, and gives the lesson's values."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import pytest
import torch

from cnnlab.lessons.course import COURSE
from tests.lessons.conftest import values_of
from tests.lessons.test_course import equal


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_a_script_gives_the_lesson_s_values_without_cnnlab(lesson):
    text = str(lesson.script)
    assert "fmt: skip" not in text
    assert "cnnlab" not in text.replace("# cnnlab ", "") and "def show" not in text and "EXERCISES" not in text
    namespace: dict = {"__name__": "printed"}
    with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(text, namespace)
    assert equal(namespace["values"], values_of(lesson.name)), "the script, run by itself, gave other values"
    assert printed.getvalue().count(":") >= len(namespace["values"])


def test_a_pasted_script_runs_where_cnnlab_is_not(tmp_path):
    """As a user would: saved, and run outside the repository without looking at installed packages of ours."""
    (tmp_path / "lesson.py").write_text(
        "import sys; sys.modules['cnnlab'] = None\n" + str(COURSE["conv2d"].script), encoding="utf-8"
    )
    done = subprocess.run([sys.executable, "lesson.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "weight_gradient:" in done.stdout


def test_keys_are_assignments_seeds_are_torch_s_and_checks_are_gone():
    script = COURSE["one_by_one"].script
    assert script.keys == ["in_channels = 3", "out_channels = 2", "size = 3", "seed = 0"]
    assert script.body.startswith("torch.manual_seed(seed)\nimage = torch.randn(")
    assert [text.split("(")[0] for text in script.definitions] == [
        "def corr2d", "def corr2d_multi_in", "def corr2d_multi_in_out",
    ]  # fmt: skip
    assert "ConfigError" not in str(COURSE["pooling"].script)


def test_imports_stand_as_a_linter_would_have_them():
    assert COURSE["from_numpy"].script.imports == ["import numpy as np", "import torch"]
    assert COURSE["files"].script.imports == [
        "import tempfile",
        "from pathlib import Path",
        "from typing import Any",
        "",
        "import torch",
        "from torch import nn",
    ]
