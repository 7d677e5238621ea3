"""`help` of settings says what each field is; the command line is not slower or longer for it."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass

import pytest

import foretell
from foretell.core.documented import with_fields

SETTINGS = [name for name in foretell.__all__ if name.endswith("Config")]


def test_help_of_settings_says_what_each_field_is():
    text = pydoc.render_doc(foretell.TrainingConfig, renderer=pydoc.plaintext)
    assert "batch_size : int, default 64\n |      Windows per update." in text
    assert "optimizer : Literal['adamw', 'muon'], default 'adamw'\n |      muon: the matrices between" in text


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_words_in_its_docstring(name):
    kind = getattr(foretell, name)
    first, _, rest = inspect.getdoc(kind).partition("\n\nAttributes\n----------\n")
    assert first
    assert "Attributes" not in first
    assert [line.partition(" : ")[0] for line in rest.splitlines() if line[:1] != " "] == [
        field.name for field in fields(kind)
    ]


def test_a_docstring_is_put_together_once_and_from_its_own_source():
    @with_fields
    @dataclass
    class Two:
        """Two numbers.

        Of a kind.
        """

        first: int
        second: float | None = None
        """The second one,
        which may be missing."""

    assert with_fields(with_fields(Two)) is Two
    assert Two.__doc__ == (
        "Two numbers.\n\nOf a kind.\n\nAttributes\n----------\n"
        "second : float | None, default None\n    The second one,\n    which may be missing."
    )


def test_what_is_no_dataclass_or_has_no_source_stays_as_it_is():
    made = dataclass(type("Made", (), {"__annotations__": {"number": int}, "__doc__": "Made."}))
    assert is_dataclass(made)
    assert with_fields(made).__doc__ == "Made."
    assert with_fields(len) is len
    assert foretell.ForetellError.__doc__.startswith("Base of every error")


def test_to_import_and_to_name_settings_parses_no_source():
    program = "import foretell, sys; assert 'dataclasses' not in sys.modules; foretell.TrainingConfig(updates=3)\n"
    program += "print(vars(foretell.TrainingConfig)['__doc__']._whole)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "None"
