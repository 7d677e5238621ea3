"""Names in any script: letters that matplotlib's own font lacks are looked for in others, and nothing else changes."""

from __future__ import annotations

import logging

import pytest
from matplotlib import font_manager

from foretell.reporting import style


@pytest.fixture
def fonts(monkeypatch):
    """Let the machine have these fonts besides."""

    def have(*names):
        monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans", *names])
        style._fonts.cache_clear()

    yield have
    style._fonts.cache_clear()


def test_fonts_that_are_there_come_behind_matplotlibs_own(fonts):
    fonts("SimHei", "Comic Sans MS", "Noto Sans CJK JP")
    assert style._fonts() == ["DejaVu Sans", "Noto Sans CJK JP", "SimHei"]


def test_other_fonts_change_nothing_that_needs_none(fonts, tmp_path, monkeypatch, caplog):
    drawn = {}
    monkeypatch.setattr(style, "OTHER_LETTERS", ("DejaVu Serif",))
    caplog.set_level(logging.DEBUG, "matplotlib.font_manager")
    for name, there in (("without", ()), ("with", ("DejaVu Serif",))):
        fonts(*there)
        (tmp_path / name).mkdir()
        paths = style.write_figure(tmp_path / name / "figure", (4, 2), lambda figure, axes: axes.set_title("−1,000 α"))
        drawn[name] = [path.read_bytes() for path in paths]
    assert drawn["with"] == drawn["without"]
    assert not caplog.records
    assert logging.getLogger("matplotlib.font_manager").level == logging.DEBUG


def test_a_letter_of_another_font_is_drawn_by_it(fonts, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(style, "OTHER_LETTERS", ("STIXGeneral",))
    for name, there, missing in (("without", (), True), ("with", ("STIXGeneral",), False)):
        fonts(*there)
        recwarn.clear()
        style.write_figure(tmp_path / name, (4, 2), lambda figure, axes: axes.set_title("\u210a"))
        assert missing == any("missing from" in str(one.message) for one in recwarn)
