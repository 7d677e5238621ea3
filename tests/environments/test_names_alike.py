"""An environment that is not registered: those of a name like it that can be made are offered."""

from __future__ import annotations

import pytest

from foretell.core.errors import UsageError
from foretell.environments.making import make_environment


@pytest.mark.parametrize(
    ("name", "offered", "not_offered"),
    [
        ("Pendulm-v1", "Did you mean Pendulum-v1?", "Pendulum-v0"),
        ("hopper-medium-v2", "Did you mean Hopper-v4, Hopper-v5?", "Hopper-v2"),  # a dataset of D4RL
        ("ant-medium-v2", "Did you mean Ant-v4, Ant-v5?", "Ant-v2"),
        ("Hopper-v9", "Did you mean Hopper-v4, Hopper-v5?", "Hopper-v3,"),
        ("Ant-v9", "Ant-v5", "Ant-v2"),
    ],
)
def test_those_that_can_be_made(name, offered, not_offered):
    with pytest.raises(UsageError) as found:
        make_environment(name)
    assert offered in str(found.value)
    assert not_offered not in str(found.value).partition("Did you mean")[2]


def test_of_a_name_like_none_the_module_is_asked_for():
    with pytest.raises(UsageError, match="give the module that registers it"):
        make_environment("Zeppelin-v1")
