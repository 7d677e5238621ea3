"""Names of environments that are registered and cannot be made: what to name, or to install, instead."""

from __future__ import annotations

import gymnasium
import pytest

from foretell.core.errors import UsageError
from foretell.environments.making import make_environment


def _moved(**kwargs):
    raise ImportError("The v2 and v3 of it have been moved to another project.\nAnd more.")


def _not_installed(**kwargs):
    raise gymnasium.error.DependencyNotInstalled("A simulator is not installed, run `pip install simulator`")


def _needs(size):
    raise AssertionError


def _silent(**kwargs):
    raise ImportError


def _drawn_by_what_is_not_there(**kwargs):
    exec(compile("None.glGetError", "/lib/OpenGL/raw/GL/_errors.py", "exec"))


NAMES = {
    "Moved-v2": _moved, "Moved-v10": _not_installed, "Moved-v9": _moved, "MovedFar-v11": _moved,
    "space/Moved-v12": _moved, "Needs-v0": _needs, "Needs-v1": _moved, "Silent-v0": _silent,
    "Drawn-v0": _drawn_by_what_is_not_there,
}  # fmt: skip


@pytest.fixture(autouse=True)
def registered():
    for name, maker in NAMES.items():
        gymnasium.register(name, entry_point=maker)
    yield
    for name in NAMES:
        gymnasium.registry.pop(name)


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Moved-v2", r"\(The v2 and v3 of it have been moved to another project\.\)\. Use Moved-v10, the newest"),
        ("Moved-v9", "Use Moved-v10, the newest version of it that is registered"),
        ("Moved-v10", r"pip install simulator`\)\. It is registered; install what it needs\.$"),
        (
            "Needs-v0",
            r"without arguments; give those that it needs behind the id \(Needs-v0,KEY=VALUE\), or register it",
        ),
        ("Needs-v0,size=3", r"\(AssertionError\)\. It takes size\.$"),
        ("Needs-v0,width=3", "unexpected keyword"),
        ("MovedFar-v11", "It is registered; install the module that it is made by"),
        ("Silent-v0", r"cannot be made \(ImportError\)"),
        (
            "Drawn-v0",
            r"no attribute 'glGetError'\)\. OpenGL, which the variable MUJOCO_GL asks for, cannot be loaded here",
        ),
        ("moved-medium-v2", r"doesn't exist\.\)\. Did you mean Moved-v10\?$"),
    ],
)
def test_what_to_use_instead_is_said(name, words):
    with pytest.raises(UsageError, match=words):
        make_environment(name)


def test_mujoco_s_moved_versions_name_the_newest(foretell, data):
    answer = foretell("inspect", data, "--environment", "Hopper-v2")
    assert answer.code == 2
    assert "Use Hopper-v5, the newest version of it that is registered; Hopper-v4 is nearer to it." in answer.err
    assert "without arguments" not in answer.err
