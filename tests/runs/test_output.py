"""What may be written over, and what is said of it."""

from __future__ import annotations

import os

import pytest

from cnnlab.cli import main
from cnnlab.errors import ConfigError, StorageError
from cnnlab.runs.output import announce, check_output, require_replaceable


def test_files_and_nothing_are_written_over(tmp_path, capsys):
    for path in (tmp_path / "new.csv", tmp_path / "old.csv", tmp_path / "a" / "b" / "new.csv"):
        assert check_output(str(path)) == path
    (tmp_path / "old.csv").touch()
    for name in ("new.csv", "old.csv", "a/b/new.csv"):
        announce(tmp_path / name)
    assert capsys.readouterr().err == f"written over: {tmp_path}/old.csv\nfolder made: {tmp_path}/a/b\n"


def test_nothing_else_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    expected = {"pipe": "a named pipe", "link": "a device", ".": "a folder"}
    for name, kind in expected.items():
        with pytest.raises(ConfigError, match=f"is {kind}; expected a file"):
            check_output(str(tmp_path / name))
        with pytest.raises(StorageError, match=f"is {kind}; expected a file"):
            require_replaceable(tmp_path / name)
    for given, message in (("/dev/full", "is a device"), ("", "'' was given; expected a file to write")):
        with pytest.raises(ConfigError, match=message):
            check_output(given)


@pytest.mark.parametrize("command", [["find-lr"], ["inspect", "schedule=cosine", "--plot"]])
def test_pictures_replace_no_device_either(command, tmp_path, capsys):
    assert main([*command, "--output", "/dev/full"]) == 2
    assert "--output /dev/full: is a device" in capsys.readouterr().err
