"""A run directory that somebody sent runs no code of theirs, and writes nowhere but beside itself."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from cnnlab.cli import main
from cnnlab.runs import saved
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.reproduction import reproduce
from cnnlab.runs.start import start
from tests.conftest import small_config

COMMANDS = {
    "evaluate": [],
    "predict": ["--part", "test"],
    "resume": ["epochs=3"],
    "inspect": [],
    "reproduce": [],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return start(small_config(tmp_path_factory.mktemp("runs")), []).path


@pytest.fixture
def sent(trained, tmp_path, monkeypatch) -> Path:
    """A run whose configuration names a module that lies in the current folder and says so when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delitem(sys.modules, "sent_along", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    run = shutil.copytree(trained, tmp_path / "runs" / "sent")
    change(run, imports=["sent_along"])
    Path("sent_along.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    return run


def change(run: Path, **keys) -> None:
    tree = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**tree, **keys}))


@pytest.mark.parametrize("command", COMMANDS)
def test_modules_of_a_run_that_somebody_sent_are_not_imported(sent, command, capsys):
    assert main([command, str(sent), *COMMANDS[command]]) == 2
    err = capsys.readouterr().err
    assert f"imports sent_along ({Path.cwd() / 'sent_along.py'})" in err and "--trust" in err
    assert not Path("ran").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_with_leave_they_are_now_and_in_future(sent, command, monkeypatch):
    assert main([command, str(sent), *COMMANDS[command], "--trust"]) == 0
    assert Path("ran").exists()
    Path("ran").unlink()
    monkeypatch.delitem(sys.modules, "sent_along")
    assert main(["inspect", str(sent)]) == 0
    assert Path("ran").exists()


def test_leave_is_for_these_modules_of_this_directory(sent, tmp_path):
    assert main(["inspect", str(sent), "--trust"]) == 0
    Path("another.py").touch()
    other = shutil.copytree(sent, tmp_path / "other")
    assert main(["inspect", str(other)]) == 2
    change(sent, imports=["sent_along", "another"])
    assert main(["inspect", str(sent)]) == 2


def test_leave_is_for_the_file_that_a_module_was(sent, tmp_path, monkeypatch, capsys):
    assert main(["inspect", str(sent), "--trust"]) == 0
    (tmp_path / "elsewhere").mkdir()
    shutil.copy("sent_along.py", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delitem(sys.modules, "sent_along")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    capsys.readouterr()
    assert main(["inspect", str(sent)]) == 2
    assert f"sent_along ({Path.cwd() / 'sent_along.py'})" in capsys.readouterr().err and not Path("ran").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("reply", "code"), [("y\n", 0), ("\n", 2), ("no\n", 2)])
def test_at_a_terminal_the_user_is_asked(sent, reply, code, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal(reply))
    assert main(["inspect", str(sent)]) == code
    assert f"sent_along ({Path.cwd() / 'sent_along.py'})" in capsys.readouterr().err
    assert Path("ran").exists() == (code == 0)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["inspect", str(sent)]) == code  # the leave, not its refusal, is remembered


def test_what_its_own_user_trained_needs_no_leave(sent, tmp_path):
    run = start(small_config(tmp_path / "own", "imports=[sent_along]", "epochs=1"), [])
    for command, arguments in COMMANDS.items():
        assert main([command, str(run.path), *arguments]) == 0


def test_folds_have_the_leave_of_their_cross_validation(sent, tmp_path):
    run = start(small_config(tmp_path / "own", "imports=[sent_along]", "epochs=1", "folds=2"), [])
    assert main(["evaluate", str(run.fold(1).path)]) == 0


def test_where_nothing_can_be_remembered_the_run_is_there_all_the_same(sent, tmp_path, monkeypatch, capsys):
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "blocked"))
    run = start(small_config(tmp_path / "own", "imports=[sent_along]", "epochs=1"), [])
    assert "cannot be written" in capsys.readouterr().err
    assert run.read_json(run.summary)["status"] == "completed"


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"a": 1}', "\x00"])
def test_a_damaged_memory_remembers_nothing(text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    saved.state_file().parent.mkdir(parents=True)
    saved.state_file().write_text(text)
    run = RunDirectory(tmp_path / "run")
    assert not saved.is_trusted(run, ["a_module"])
    saved.trust(run, ["a_module"])
    assert saved.is_trusted(run, ["a_module"])


def test_a_module_whose_package_must_be_imported_to_find_it_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("package").mkdir()
    Path("package/__init__.py").write_text("raise RuntimeError('it ran')\n")
    assert saved.find_origin("package.part") == str(tmp_path / "package" / "__init__.py")
    assert saved.find_origin("no_such_thing") == "not found"


@pytest.mark.parametrize("name", ["../../..", "/abs", "a/../../b"])
def test_a_name_that_leaves_its_folder_is_refused(sent, name, capsys):
    change(sent, imports=[], name=name)
    for command in COMMANDS:
        assert main([command, str(sent)]) == 2
        assert "name:" in capsys.readouterr().err


def test_a_repetition_lies_beside_the_run_whatever_its_configuration_says(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained, tmp_path / "runs" / "sent")
    change(run, output_dir=str(tmp_path / "elsewhere"), epochs=1)
    reproduce(str(run), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert len(list((tmp_path / "runs").iterdir())) == 2
