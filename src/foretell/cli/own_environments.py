"""Environments of one's own: `--environment module:Id` imports the module, which registers the id with Gymnasium.

Only what a person types is imported, never a name that a file holds (`environments.making.make_environment`).
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.system import command_line, with_variable
from foretell.environments.keywords import canonical

MODULES = "FORETELL_MODULES"
"""Environment variable: modules to import, with commas between them. Workers find it in theirs."""


def with_own_environments(verb: Any) -> Any:
    """Import what `FORETELL_MODULES` and the verb's environment name; return the verb with the id alone, and its
    keywords in one order (`environments.keywords`).

    Raises `UsageError` where a module cannot be imported.
    """
    typed = getattr(verb, "environment", None) or ""
    known, comma, keywords = typed.partition(",")
    module, colon, name = known.rpartition(":")
    if colon and not (module and name):
        raise UsageError(f"--environment {typed}; expected an id such as Pendulum-v1, or module:Id.")
    wanted = [one.strip() for one in os.environ.get(MODULES, "").split(",") if one.strip()] + [module] * bool(colon)
    for one in dict.fromkeys(wanted):
        _import(one)
    if colon:
        os.environ[MODULES] = ",".join(dict.fromkeys(wanted))
    return replace(verb, environment=canonical(name + comma + keywords)) if typed else verb


def to_paste(*words: str) -> str:
    """Return a command to go on with, as a shell reads it: with the modules that this one imported."""
    modules = os.environ.get(MODULES)
    command = command_line(words)
    return with_variable(MODULES, modules, command) if modules else command


def evaluate_next(run: str, environment: str | None) -> str:
    """Return how to go on with a run: its evaluation, or without an environment what is to be named or done instead."""
    command = to_paste("foretell", "evaluate", run)
    return command if environment else f"{command} --environment ID; without one it acts by foretell.load_policy."


def _import(module: str) -> None:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind all else: a module of the folder that one works in
    try:
        importlib.import_module(module)
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else "no message"
        raise UsageError(
            f"module {module!r} cannot be imported ({type(error).__name__}: {said}); expected one that registers "
            "environments with Gymnasium. Is it in this folder, or installed?"
        ) from None
