"""What a sampler is asked besides the plain law: other numbers to tell, rows to end at, rows to end at more often."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.checks import notices
from foretell.core.errors import UsageError
from foretell.core.seeding import stream
from foretell.sequences.windows import WindowSampler
from reference.making import CHOICES, IDENTITY, make_dataset, scaled

LENGTHS = [3, 1, 5, 2]
STEPS = sum(LENGTHS)
ROWS = np.arange(STEPS, dtype=np.float32)
ODD = np.array([0, 3, 4, 10])
GOOD = np.array([2, 9])


def _sampler(*, context_length=4, seed=0, told=ROWS + 100, **asked):
    return WindowSampler(make_dataset(LENGTHS), scaled(), context_length=context_length, seed=seed, told=told, **asked)


def _last(batch):
    """The rows that the windows end at: `told` names them."""
    return batch.returns_to_go[:, -1, 0].numpy().astype(int) - 100


def _draws(sampler, *, updates=300, size=20):
    return np.stack([_last(sampler.batch(update, size)) for update in range(updates)])


def equally_likely(rows, among):
    """Pearson's statistic within six deviations of its mean, and nothing from elsewhere."""
    counts = np.bincount(rows.ravel(), minlength=STEPS)
    assert counts.sum() == counts[among].sum(), "a row from elsewhere"
    expected, freedom = rows.size / len(among), len(among) - 1
    assert ((counts[among] - expected) ** 2 / expected).sum() < freedom + 6 * np.sqrt(2 * freedom)


def check_told(context_length=4):
    """Every real timestep of every window shows its own row's number, and padding shows 0."""
    batch = _sampler(context_length=context_length).windows(np.arange(STEPS))
    assert batch.returns_to_go.shape == (STEPS, context_length, 1)
    start = 0
    for length in LENGTHS:
        for last in range(start, start + length):
            rows = range(last - context_length + 1, last + 1)
            expected = [100.0 + row if row >= start else 0.0 for row in rows]
            assert batch.returns_to_go[last, :, 0].tolist() == expected
        start += length


@pytest.mark.parametrize("context_length", [1, 4, 7])
def test_told_numbers_stand_where_returns_to_go_did(context_length):
    check_told(context_length)


@pytest.mark.parametrize("shift", [1, -1])
def test_numbers_of_another_row_are_noticed(shift, monkeypatch):
    plain = WindowSampler.__init__

    def shifted(self, *data, told, **asked):
        plain(self, *data, told=np.roll(told, shift), **asked)

    monkeypatch.setattr(WindowSampler, "__init__", shifted)
    notices(check_told)


def test_nothing_else_of_a_window_changes():
    told = _sampler().batch(3, 16)
    plain = _sampler(told=None).batch(3, 16)
    assert told.goals is plain.goals is None
    for name, value in vars(plain).items():
        if name != "goals":
            assert torch.equal(value, getattr(told, name)) == (name != "returns_to_go"), name


def test_told_numbers_are_float32_and_may_be_one_number_for_all():
    """Behaviour cloning is told one zero for a million timesteps, which is not written out."""
    data = make_dataset(LENGTHS, shape=CHOICES)
    numbers = np.broadcast_to(np.float32(0.5), (STEPS,))
    batch = WindowSampler(data, IDENTITY, context_length=2, seed=0, told=numbers).windows(np.array([0, 2]))
    assert batch.returns_to_go[..., 0].tolist() == [[0.0, 0.5], [0.5, 0.5]]
    exact = np.float64(1) / 3
    found = _sampler(told=np.full(STEPS, exact)).windows(np.array([2])).returns_to_go
    assert found.dtype == torch.float32
    assert found[0, -1, 0].item() == np.float32(exact)


@pytest.mark.parametrize("seed", [0, 7])
def test_without_being_asked_every_row_is_equally_likely(seed):
    sampler = _sampler(seed=seed)
    for update in (0, 5, 1_000):
        drawn = stream(seed, "windows", update).integers(STEPS, size=20)
        np.testing.assert_array_equal(_last(sampler.batch(update, 20)), drawn)
    equally_likely(_draws(sampler), np.arange(STEPS))


def check_eligible():
    """Windows end at eligible rows alone, each as often as any other; their pasts may reach out of them."""
    sampler = _sampler(eligible=ODD)
    equally_likely(_draws(sampler), ODD)
    for update in (0, 5):
        drawn = stream(0, "windows", update).integers(len(ODD), size=20)
        np.testing.assert_array_equal(_last(sampler.batch(update, 20)), ODD[drawn])
    past = sampler.windows(np.array([10])).returns_to_go[0, :, 0]
    assert past.tolist() == [0.0, 0.0, 109.0, 110.0]  # row 9 is not eligible, and seen


def test_eligible_rows_are_the_only_last_ones_and_equally_likely():
    check_eligible()


def test_rows_from_elsewhere_and_uneven_draws_are_noticed(monkeypatch):
    plain = WindowSampler.windows
    for fault in (lambda last: np.maximum(last, 3), lambda last: np.where(last == 0, 1, last)):
        with monkeypatch.context() as patch:
            patch.setattr(WindowSampler, "windows", lambda self, last, later, fault=fault: plain(self, fault(last)))
            notices(check_eligible)


@pytest.mark.parametrize(("size", "half"), [(20, 10), (7, 3), (1, 0)])
@pytest.mark.parametrize("eligible", [None, ODD], ids=["all", "some"])
def test_the_first_half_ends_at_emphasized_rows_and_the_rest_where_it_would_have(eligible, size, half):
    plain = _draws(_sampler(eligible=eligible), size=size)
    found = _draws(_sampler(eligible=eligible, emphasized=GOOD), size=size)
    np.testing.assert_array_equal(found[:, half:], plain[:, half:])
    if half:
        equally_likely(found[:, :half], GOOD)
        assert len({tuple(row) for row in found[:, :half].tolist()}) > 6, "every update draws the same"
    equally_likely(found[:, half:], np.arange(STEPS) if eligible is None else eligible)


def test_emphasized_draws_are_a_function_of_seed_and_update():
    first = _draws(_sampler(emphasized=GOOD), updates=4)
    again = np.stack([_last(_sampler(emphasized=GOOD).batch(update, 20)) for update in (3, 2, 1, 0)])[::-1]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[:, :10], _draws(_sampler(emphasized=GOOD, seed=1), updates=4)[:, :10])


def test_drawing_writes_into_neither_list():
    eligible, emphasized = ODD.copy(), GOOD.copy()
    _draws(_sampler(eligible=eligible, emphasized=emphasized), updates=5)
    assert (eligible.tolist(), emphasized.tolist()) == (ODD.tolist(), GOOD.tolist())


def test_no_emphasized_row_is_no_emphasis():
    empty = np.zeros(0, np.int64)
    np.testing.assert_array_equal(_draws(_sampler(emphasized=empty), updates=5), _draws(_sampler(), updates=5))


def test_lists_of_the_wrong_length_are_refused():
    with pytest.raises(UsageError, match="told has 10 numbers for 11 timesteps"):
        _sampler(told=ROWS[1:])
    with pytest.raises(UsageError, match="no row is eligible"):
        _sampler(eligible=np.zeros(0, np.int64))
