"""The units of a whole pass, drawn at once: those that are drawn one by one, and no other pass's."""

from __future__ import annotations

import pytest
import torch

from foretell.models.dropout import PassGenerator, add_dropped, dropout

CPU = torch.device("cpu")
PARTS = [torch.ones(7, 3), torch.ones(4), torch.ones(2, 5, 11), torch.ones(1)]
"""Of 21 units, 4, 110 and 1: three of them end within a 64-bit number."""


def _pass(generator, probability=0.3):
    return [dropout(part, probability, generator) for part in PARTS]


def _seeded(seed=1):
    generator = PassGenerator()
    generator.manual_seed(seed)
    return generator


def test_a_pass_drawn_at_once_drops_the_units_drawn_one_by_one():
    generator = _seeded()
    generator.count(lambda: _pass(generator))
    assert generator.get_state().equal(_seeded().get_state()), "counting drew"
    generator.draw(0.3, CPU)
    for found, expected in zip(_pass(generator), _pass(torch.Generator().manual_seed(1)), strict=True):
        assert torch.equal(found, expected)


def test_a_pass_that_is_counted_drops_nothing():
    generator, found = _seeded(), []
    generator.count(lambda: found.extend([*_pass(generator), add_dropped(PARTS[0], PARTS[0], 0.3, generator)]))
    *kept, added = found
    assert all(torch.equal(one, part) for one, part in zip(kept, PARTS, strict=True))
    assert torch.equal(added, 2 * PARTS[0])


@pytest.mark.parametrize("probability", [0.3, 0.5])
def test_another_pass_than_was_drawn_is_an_error(probability):
    generator = _seeded()
    generator.count(lambda: _pass(generator))
    generator.draw(0.3, CPU)
    if probability == 0.3:
        _pass(generator)  # and one more behind it
    with pytest.raises(RuntimeError, match=r"expected at most 144 units, all with 0\.3"):
        _pass(generator, probability)


def test_what_was_drawn_can_be_forgotten():
    generator = _seeded()
    generator.count(lambda: _pass(generator))
    generator.draw(0.3, CPU)
    generator.forget()
    generator.manual_seed(1)
    assert torch.equal(_pass(generator)[0], _pass(torch.Generator().manual_seed(1))[0])


def test_without_dropout_nothing_is_drawn():
    generator = _seeded()
    generator.count(lambda: _pass(generator, 0.0))
    generator.draw(0.0, CPU)
    assert generator.get_state().equal(_seeded().get_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_added_is_dropped_before(dtype):
    tokens, branch = torch.randn(9, 8), torch.randn(9, 8).to(dtype)
    added = add_dropped(tokens, branch, 0.3, _seeded())
    exact = tokens + dropout(branch.float(), 0.3, _seeded())
    assert added.dtype is torch.float32
    assert torch.equal(added, exact)
    assert torch.equal(add_dropped(tokens, branch, 0.3, None), tokens + branch)
