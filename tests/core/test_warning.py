"""Warnings name the line of whoever called."""

from __future__ import annotations

import dataclasses
import threading
import warnings

import torch

import foretell
from foretell.core.warning import caller, on_behalf_of, warn_caller
from foretell.facade.seeds import train_seeds
from reference.making import make_dataset, small_config

SETTINGS = {
    "model": small_config("decision-transformer"), "training": foretell.TrainingConfig(updates=1, batch_size=2),
}  # fmt: skip


def warned(work, said):
    """Return the lines of this file that warnings of these words name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    found = [(one.filename, one.lineno) for one in caught if said in str(one.message)]
    assert found, [str(one.message) for one in caught]
    assert {name for name, _ in found} == {__file__}
    return [line for _, line in found]


def test_public_functions_name_the_line_that_called_them(tmp_path):
    unnamed = dataclasses.replace(make_dataset([9, 5]), metadata=foretell.DatasetMetadata(environment="Nowhere-v0"))
    seen = make_dataset([9, 5])

    def calls():
        foretell.train(unnamed, tmp_path / "a", **SETTINGS)
        foretell.train_iql(unnamed, tmp_path / "b", values=foretell.IQLConfig(updates=1, batch_size=2))
        train_seeds(unnamed, tmp_path / "c", [0, 1], **SETTINGS)

    first = calls.__code__.co_firstlineno
    assert set(warned(calls, "'Nowhere-v0' cannot be made")) == {first + 1, first + 2, first + 3}

    def asks():
        foretell.train(seen, tmp_path / "d", target=1e6, **SETTINGS)
        train_seeds(seen, tmp_path / "e", [0], target=1e6, **SETTINGS)

    assert warned(asks, "target return 1e+06 is outside") == [asks.__code__.co_firstlineno + line for line in (1, 2)]


def test_what_pytorch_wraps_names_the_caller_too():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.no_grad()(warn_caller)("wrapped")
    assert [one.filename for one in caught] == [__file__]


def test_a_line_is_told_once_and_another_again():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            warn_caller("twice here")
        warn_caller("twice here")
    assert [str(one.message) for one in caught] == ["twice here"] * 2


def test_a_thread_of_ours_warns_its_callers_line_and_one_of_nobody_no_line_at_all():
    here, found = caller(), []
    ours = {
        "__name__": "foretell.somewhere",
        "found": found,
        "caller": caller,
        "here": here,
        "on_behalf_of": on_behalf_of,
    }
    for code in ("found.append(caller())", "with on_behalf_of(here): found.append(caller())"):
        thread = threading.Thread(target=exec, args=(code, ours))  # nothing but Foretell and threading below
        thread.start()
        thread.join()
    assert found[0].filename == "foretell"
    assert found[1] is here
    assert here.filename == __file__
    bare = threading.Thread(target=warn_caller, args=("of a thread",))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bare.start()
        bare.join()
    assert [str(one.message) for one in caught] == ["of a thread"]
