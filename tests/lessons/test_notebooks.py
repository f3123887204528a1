"""Notebooks: valid, the same when made again, and their cells run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from cnnlab.lessons.command import run
from cnnlab.lessons.course import COURSE
from cnnlab.lessons.notebooks import notebook

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kernel(monkeypatch):
    """The kernel is this Python, and `cnnlab` in a cell is this checkout."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", os.devnull)


def execute(name: str, folder: Path, commands: bool) -> list[dict]:
    """The code cells after a run, from top to bottom; without `commands`, those that call cnnlab are left out."""
    document = nbformat.reads(notebook(COURSE[name]), as_version=4)
    nbformat.validate(document)
    if not commands:
        document.cells = [cell for cell in document.cells if not cell.source.startswith("!")]
    client = nbclient.NotebookClient(
        document, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [cell for cell in document.cells if cell.cell_type == "code"]


def printed(cell: dict) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def test_a_notebook_is_valid_and_the_same_again(tmp_path, capsys):
    path = tmp_path / "padding.ipynb"
    assert run(["padding", "--notebook", str(path)]) == 0
    assert capsys.readouterr().out == f"notebook: {path}\n"
    text = path.read_text(encoding="utf-8")
    document = nbformat.reads(text, as_version=4)
    nbformat.validate(document)
    assert text == notebook(COURSE["padding"])
    sources = [cell.source for cell in document.cells]
    assert sources[0].startswith("# Padding: a frame of zeros") and "padding = 1" in sources
    assert any("attachments" in cell for cell in document.cells)
    assert sources[-1].startswith("## Exercises") and sources[-1].endswith("Next: `stride`.")


def test_cells_import_torch_and_never_cnnlab():
    for lesson in COURSE.values():
        for cell in json.loads(notebook(lesson))["cells"] if not lesson.has_picture else []:
            if cell["cell_type"] == "code" and not cell["source"].startswith("!"):
                assert "import cnnlab" not in cell["source"] and "from cnnlab" not in cell["source"]


def test_commands_that_need_a_download_are_passed_over():
    cells = {cell["source"]: cell for cell in json.loads(notebook(COURSE["case_mnist"]))["cells"]}
    assert cells["!cnnlab train experiment=mnist_cnn"]["metadata"]["tags"] == ["skip-execution"]
    cells = {cell["source"]: cell for cell in json.loads(notebook(COURSE["regression"]))["cells"]}
    assert "tags" not in cells["!cnnlab train experiment=linear_regression"]["metadata"]


@pytest.mark.parametrize("name", ["cross_correlation", "conv2d"])
def test_cells_run_and_print_the_numbers(name, kernel, tmp_path):
    cells = execute(name, tmp_path, commands=False)
    expected = {"cross_correlation": "[37., 43.]", "conv2d": "bias_gradient:\n16.0"}[name]
    assert expected in printed(cells[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", COURSE)
def test_every_notebook_runs_with_the_commands_that_need_no_download(name, kernel, tmp_path):
    for cell in execute(name, tmp_path, commands=True):
        assert "cnnlab: " not in printed(cell), cell["source"]


def test_all_notebooks_in_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cnnlab.lessons.notebooks.picture_cell", lambda lesson: {"cell_type": "raw"})
    assert run(["all", "--notebook", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == len(COURSE)
    assert names[0] == "01_cross_correlation.ipynb" and names[-1].endswith("_case_cats_dogs.ipynb")
