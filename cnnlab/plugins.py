"""A user's own modules, which register models, datasets and whatever else has a registry."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from cnnlab.errors import ConfigError


def is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def import_modules(names: Any) -> None:
    """Import the user's own packages, so that what they register is known. The current folder is searched too.

    Raises ConfigError naming every module that cannot be imported.
    """
    if not names:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) and is_module_name(name) for name in names):
        raise ConfigError(f"imports: {names!r} was given; expected a list of modules, such as [my_package.models]")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    problems = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            problems.append(
                f"imports: {name} cannot be imported ({error}); expected an installed module, or one in this folder"
            )
    if problems:
        raise ConfigError(problems)
