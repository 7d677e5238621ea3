"""What to do about an environment that Gymnasium could not make."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from foretell.core.errors import ForetellError, UsageError
from foretell.environments.keywords import LOOKS, parsed

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""Parameters that are given by name; the others stand for any."""
FEW = 10
"""Environments of a name like the unknown one that are tried, which takes a while."""


def instead_of(name: str, error: Exception, keywords: Collection[str]) -> str:
    """Return what to do about an environment that Gymnasium could not make, by its id and with these keywords."""
    if name not in gymnasium.registry:
        stem = (name.rpartition("-v")[0] or name).lower()
        stem = stem.partition("-")[0][:6] or stem[:6]  # the task, of a dataset's name such as ant-medium-v2
        close = [known for known in gymnasium.registry if known.lower().startswith(stem)]
        close = ([known for known in close[:FEW] if _can_be_made(known)] or close)[:5]
        own = (
            " Of your own, give the module that registers it: --environment module:Id, FORETELL_MODULES=module where "
            "the run or the data name the environment, or import it first."
        )
        return f" Did you mean {', '.join(close)}?" if close else own
    if of_opengl(error):
        return (
            " OpenGL, which the variable MUJOCO_GL asks for, cannot be loaded here; where nothing is drawn, unset it. "
            "To draw, give one that is installed: egl, osmesa or glfw."
        )
    if isinstance(error, gymnasium.error.DependencyNotInstalled):
        return " It is registered; install what it needs."
    spec = gymnasium.registry[name]
    newer = sorted((one.version, known) for known, one in gymnasium.registry.items()
                   if (one.namespace, one.name) == (spec.namespace, spec.name)
                   and (one.version or 0) > (spec.version or 0))  # fmt: skip
    if newer and not keywords and not isinstance(error, TypeError):
        newest = newer[-1][1]
        nearest = next((known for _, known in newer if _can_be_made(known)), newest)
        nearer = f"; {nearest} is nearer to it" if nearest != newest else ""
        return f" Use {newest}, the newest version of it that is registered{nearer}."
    if isinstance(error, ImportError):
        return " It is registered; install the module that it is made by."
    if keywords:
        return _what_is_taken(spec)
    return (
        " It is registered, but does not start without arguments; give those that it needs behind the id "
        f"({name},KEY=VALUE), or register it with them (kwargs of gymnasium.register)."
    )


@contextmanager
def keywords_named(name: str, keywords: Mapping[str, Any], when: str) -> Generator[None]:
    """Raise `UsageError`, which names the keywords, for what an environment raises that was made with some; without
    any it is a mistake of the environment's own, and goes through. What it raises is the cause."""
    try:
        yield
    except (ForetellError, MemoryError):
        raise
    except Exception as error:  # of wrong keywords it may be anything
        if not keywords:
            raise
        there = traceback.extract_tb(error.__traceback__)[-1]
        given = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
        takes = _what_is_taken(gymnasium.registry[parsed(name)[0]])
        raise UsageError(
            f"environment {name!r} fails at its first {when} ({type(error).__name__}: {first_line(error)}; "
            f"{Path(there.filename).name}, line {there.lineno}). It was made with {given}; expected what it can begin "
            f"with.{takes}"
        ) from error


def of_opengl(error: Exception) -> bool:
    """Say whether it is OpenGL's, which MuJoCo loads, and which fails anywhere without its library."""
    return "OpenGL" in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts


def first_line(error: Exception) -> str:
    """Return what an error says, its first line; its type where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _what_is_taken(spec: Any) -> str:
    takes = [one.name for one in _parameters(spec) if one.kind in BY_NAME and one.name not in LOOKS]
    return f" It takes {', '.join(takes)}." if takes else ""


def maker_defaults(registered: Any) -> dict[str, Any]:
    """Return what an environment's keywords are where nobody says; nothing where it cannot be loaded here.

    `registered` is Gymnasium's `EnvSpec` of it.
    """
    return {one.name: one.default for one in _parameters(registered) if one.default is not inspect.Parameter.empty}


def _parameters(registered: Any) -> list[inspect.Parameter]:
    entry = registered.entry_point
    try:
        maker = load_env_creator(entry) if isinstance(entry, str) else entry
        return list(inspect.signature(maker).parameters.values())
    except (gymnasium.error.Error, ImportError, AttributeError, TypeError, ValueError):
        return []


def _can_be_made(name: str) -> bool:
    """Say whether an environment that is registered can be made, here or where its simulator is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            gymnasium.make(name).close()
        except gymnasium.error.DependencyNotInstalled:
            return True
        except Exception:  # whatever its maker raises: it is only asked whether to name it
            return False
    return True
