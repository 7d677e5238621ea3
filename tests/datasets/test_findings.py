"""What passes over the data in blocks finds what one look at everything would, whatever the size of a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretell.core.errors import DatasetError
from foretell.datasets import columns, dataset, fingerprint
from foretell.datasets.doctor import diagnose
from foretell.datasets.doctor_episodes import duplicates, timesteps
from foretell.datasets.findings import deviation, inside, spread, spread_rows
from foretell.datasets.one_step import misplaced_actions
from foretell.sequences import normalization
from foretell.sequences.normalization import Normalization
from reference.making import make_dataset

LENGTHS = [1, 5, 2, 9, 3, 1, 4]


@pytest.mark.parametrize("lengths", [LENGTHS, [1, 1], [25]])
@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 2), (0, 0)])
@pytest.mark.parametrize("most", [4, 100])
def test_rows_with_others_around_them(lengths, before, after, most):
    data = make_dataset(lengths)
    starts, ends = (np.repeat(part, lengths) for part in (data.episode_starts, data.episode_ends))
    rows = np.arange(data.num_steps)
    fit = rows[(rows - before >= starts) & (rows + after < ends)]
    np.testing.assert_array_equal(spread_rows(data, most, before=before, after=after), fit[spread(len(fit), most)])
    if (before, after) == (0, 1):
        np.testing.assert_array_equal(fit, np.flatnonzero(inside(data)))


def test_actions_of_short_episodes_tell_nothing():
    assert misplaced_actions(make_dataset([2] * 50)) is None


@pytest.mark.parametrize("block", [1, 4, 1000])
def test_deviations_and_returns_do_not_depend_on_blocks(monkeypatch, block):
    data = make_dataset(LENGTHS)
    monkeypatch.setattr(fingerprint, "BLOCK_ROWS", block)
    monkeypatch.setattr(dataset, "BLOCK_ROWS", block)
    np.testing.assert_allclose(
        deviation(data.observations), data.observations.std(axis=0, dtype=np.float64), rtol=1e-12
    )
    assert deviation(data.rewards) == pytest.approx(float(data.rewards.std(dtype=np.float64)), rel=1e-12)
    expected = np.add.reduceat(data.rewards, data.episode_starts, dtype=np.float64)
    np.testing.assert_array_equal(data.episode_returns(), expected, strict=True)


@pytest.mark.parametrize("block", [1, 2, 1000])
def test_a_flag_is_found_in_any_block(monkeypatch, block):
    monkeypatch.setattr(columns, "BLOCK_ROWS", block)
    good = np.array([0, 1, 0, 1, 1], np.uint8)
    np.testing.assert_array_equal(columns.as_flags(good, "it"), good.astype(bool), strict=True)
    with pytest.raises(DatasetError, match=r"it holds 7 in row 3; expected flags"):
        columns.as_flags(np.array([0, 1, 0, 7, 9], np.uint8), "it")


def test_counts_of_timesteps_are_held_against_the_starts(monkeypatch):
    monkeypatch.setattr(fingerprint, "BLOCK_ROWS", 4)
    counted = np.concatenate([np.arange(length) for length in LENGTHS])
    for begin in (0, 1):
        good = replace(make_dataset(LENGTHS), extras={"timesteps": counted + begin})
        assert list(timesteps(good)) == []
        bad = counted + begin
        bad[13] += 5
        (found,) = timesteps(replace(good, extras={"timesteps": bad}))
        assert f"timesteps is {10 + begin} at episode 3, timestep 5; expected {5 + begin}" in found.message


def test_repeated_episodes_are_counted_and_the_first_pair_is_named():
    data = make_dataset([2, 2, 2, 2, 2])
    rows = np.array([0, 1, 2, 3, 4, 5, 2, 3, 0, 1])
    same = replace(data, observations=data.observations[rows], actions=data.actions[rows], rewards=data.rewards[rows])
    assert [one.message for one in duplicates(same)] == ["2 episodes repeat earlier ones (episode 3 equals 1)."]
    assert list(duplicates(data)) == []
    assert any(finding.check == "duplicates" for finding in diagnose(same))


def test_of_wide_observations_fewer_timesteps_are_read(monkeypatch):
    data = make_dataset(LENGTHS)
    width = data.observations.shape[1]
    monkeypatch.setattr(normalization, "STATISTICS_NUMBERS", 5 * width)
    found = Normalization.fit(data, None)
    rows = data.observations[spread(data.num_steps, 5)].astype(np.float64)
    np.testing.assert_array_equal(found.observation_mean, rows.mean(axis=0))
    np.testing.assert_array_equal(found.observation_std, rows.std(axis=0))
