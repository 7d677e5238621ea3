"""The units of a whole pass, drawn at once: those that are drawn one by one, and no other pass's."""

from __future__ import annotations

from threading import Thread

import pytest
import torch

from foretell.models.dropout import PassUnits, add_dropped, dropout

CPU = torch.device("cpu")
PARTS = [torch.ones(7, 3), torch.ones(4), torch.ones(2, 5, 11), torch.ones(1)]
"""Of 21 units, 4, 110 and 1: three of them end within a 64-bit number."""


def _pass(generator=None, probability=0.3):
    generator = generator or torch.Generator()
    return [dropout(part, probability, generator) for part in PARTS]


def _seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def _counted():
    units, generator = PassUnits(), _seeded()
    with units.counting():
        _pass(generator)
    assert generator.get_state().equal(_seeded().get_state()), "counting drew"
    return units


def test_a_pass_drawn_at_once_drops_the_units_drawn_one_by_one():
    units = _counted()
    for seed in (1, 2):
        with units.drawn(0.3, CPU, _seeded(seed)):
            together = _pass()
        for found, expected in zip(together, _pass(_seeded(seed)), strict=True):
            assert torch.equal(found, expected)


def test_a_pass_that_is_counted_drops_nothing():
    with PassUnits().counting():
        found, added = _pass(), add_dropped(PARTS[0], PARTS[0], 0.3, _seeded())
    assert all(torch.equal(one, part) for one, part in zip(found, PARTS, strict=True))
    assert torch.equal(added, 2 * PARTS[0])


@pytest.mark.parametrize(("passes", "probability"), [(2, 0.3), (1, 0.5)])
def test_another_pass_than_was_drawn_is_an_error(passes, probability):
    units = _counted()
    with units.drawn(0.3, CPU, _seeded()), pytest.raises(RuntimeError, match=r"at most 144 units, all with 0\.3"):
        [_pass(probability=probability) for _ in range(passes)]


def test_behind_a_pass_each_draws_its_own_also_after_an_error():
    units = _counted()
    with pytest.raises(KeyError), units.drawn(0.3, CPU, _seeded()):
        raise KeyError
    assert torch.equal(_pass(_seeded())[0], _pass(_seeded())[0])
    with units.drawn(0.3, CPU, _seeded(2)):
        found = _pass()
    assert torch.equal(found[2], _pass(_seeded(2))[2])


def test_another_thread_draws_its_own():
    units, found = _counted(), []
    with units.drawn(0.3, CPU, _seeded(2)):
        thread = Thread(target=lambda: found.extend(_pass(_seeded(5))))
        thread.start()
        thread.join()
        own = _pass()
    assert torch.equal(own[2], _pass(_seeded(2))[2])
    assert all(torch.equal(one, other) for one, other in zip(found, _pass(_seeded(5)), strict=True))


def test_without_dropout_nothing_is_drawn():
    units, generator = PassUnits(), _seeded()
    with units.counting():
        _pass(generator, 0.0)
    with units.drawn(0.0, CPU, generator):
        _pass(generator, 0.0)
    assert generator.get_state().equal(_seeded().get_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_added_is_dropped_before(dtype):
    tokens, branch = torch.randn(9, 8), torch.randn(9, 8).to(dtype)
    added = add_dropped(tokens, branch, 0.3, _seeded())
    exact = tokens + dropout(branch.float(), 0.3, _seeded())
    assert added.dtype is torch.float32
    assert torch.equal(added, exact)
    assert torch.equal(add_dropped(tokens, branch, 0.3, None), tokens + branch)
