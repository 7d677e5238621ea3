"""Values of JSON held against what they have to be."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.core.errors import CheckpointError
from foretell.core.forms import Name, check_form
from foretell.core.run_forms import CONFIGS, EVENT, MANIFEST, RECORD

FORM = {
    "name": Name,
    "count": int,
    "number": (float, None),
    "inner": {"flag": bool, "list?": [float]},
    "more?": (dict, None),
}
SOUND = {"name": "a", "count": 3, "number": 1.5, "inner": {"flag": True, "list": [1, 2.5]}, "unknown": object()}
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [
    ({"name": 3}, "name is 3; expected a text of at most 255 letters"),
    ({"name": "a" * 256}, "name is 'aaa.*expected a text of at most 255"),
    ({"count": True}, "count is True; expected a whole number"), ({"count": 1.0}, "count is 1.0; expected a whole"),
    ({"count": 10**400}, "count is a number with too many digits"),
    ({"number": "x"}, "number is 'x'; expected a finite number or null"),
    ({"number": float("nan")}, "number is nan; expected a finite"), ({"number": 10**400}, "too many digits"),
    ({"inner": None}, "inner is None; expected an object"),
    ({"inner": {}}, "inner lacks 'flag'; expected the keys flag"),
    ({"inner": {"flag": 1}}, "inner.flag is 1; expected true or false"),
    ({"inner": {"flag": True, "list": [1, None]}}, r"inner.list\[1\] is None; expected a finite number"),
    ({"inner": {"flag": True, "list": {}}}, "inner.list is an object; expected a list"),
    ({"more": []}, "more is a list; expected an object or null"),
])  # fmt: skip
def test_what_is_of_another_form_is_named(change, said):
    check_form(SOUND, FORM, "here", "Mend.")
    with pytest.raises(CheckpointError, match=f"^here: .*{said}.* Mend.$"):
        check_form(SOUND | change, FORM, "here", "Mend.")


def test_keys_that_are_missing():
    with pytest.raises(CheckpointError, match=r"here: lacks .count.; expected the keys name, count, number, inner"):
        check_form({"name": "a"}, FORM, "here", "Mend")
    check_form({"name": "a", "inner": {}}, FORM, "here", "Mend", partial=True)
    with pytest.raises(CheckpointError, match=r"inner\.flag is 3"):
        check_form({"inner": {"flag": 3}}, FORM, "here", "Mend", partial=True)
    with pytest.raises(CheckpointError, match="other is 'x'; expected a finite number"):
        check_form({"event": "a", "other": "x"}, EVENT, "here", "Mend")


@given(values)
def test_whatever_it_is_the_answer_is_a_sentence_or_none(value):
    for form in (*CONFIGS.values(), EVENT, MANIFEST, RECORD, FORM, [float], (int, None)):
        for partial in (False, True):
            with contextlib.suppress(CheckpointError):
                check_form(value, form, "here", "Mend.", partial=partial)
