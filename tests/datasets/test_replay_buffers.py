"""Datasets made of arrays: what a replay buffer holds, in the types that it has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets import dataset as dataset_module
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_dataset
from foretell.datasets.dataset import Dataset

STEPS = 6
RNG = np.random.default_rng(0)
BUFFER = {
    "observations": RNG.normal(size=(STEPS, 3)), "next_observations": RNG.normal(size=(STEPS, 3)),
    "actions": RNG.uniform(-1, 1, (STEPS, 2)), "rewards": RNG.normal(size=STEPS), "terminations": np.zeros(STEPS, bool),
    "truncations": np.arange(STEPS) % 3 == 2, "episode_ends": np.array([3, 6]),
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rewards": BUFFER["rewards"][:, None]},
        {"terminations": np.zeros((STEPS, 1), np.float32), "truncations": BUFFER["truncations"].astype(np.float32)},
        {"episode_ends": [3, 6]},
        {name: values.tolist() for name, values in BUFFER.items()},
    ],
    ids=["float64", "rewards (N, 1)", "flags as floats", "ends as a list", "lists"],
)
def test_a_buffer_is_the_dataset_that_its_file_is(changed, tmp_path):
    made = Dataset(name="buffer", **{**BUFFER, **changed})
    write_dataset(tmp_path / "buffer.hdf5", made)
    found = read_d4rl(tmp_path / "buffer.hdf5")
    assert made.fingerprint() == found.fingerprint() == found.stored_fingerprint
    assert made.episode_returns().tolist() == found.episode_returns().tolist()
    assert {name: column.dtype for name, column in made.columns().items()} == {
        name: column.dtype for name, column in found.columns().items()
    }


def test_whole_numbers_in_one_column_are_choices_and_fractions_are_not():
    choices = Dataset(name="buffer", **{**BUFFER, "actions": np.arange(STEPS)[:, None] % 3})
    assert choices.discrete
    assert choices.num_actions == 3
    numbers = Dataset(name="buffer", **{**BUFFER, "actions": np.arange(STEPS) / 3})
    assert not numbers.discrete
    assert numbers.action_dim == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"observations": np.zeros(STEPS)}, r"observations' has shape \(6,\).*one-hot"),
        ({"rewards": np.zeros((STEPS, 1, 2))}, r"rewards' has shape \(6, 1, 2\)"),
        ({"terminations": np.full(STEPS, 0.5)}, "terminations' holds 0.5"),
        ({"actions": np.zeros((STEPS, 1, 2))}, r"actions' has shape \(6, 1, 2\)"),
        ({"episode_ends": [3]}, "whole episodes"),
        ({"rewards": np.full(STEPS, 1e300)}, "rewards' holds inf"),
        ({"rewards": [[1.0]] * (STEPS - 1) + [[1.0, 2.0]]}, "rewards' are no array"),
        ({"infos": {"step": [[1.0]] * (STEPS - 1) + [[1.0, 2.0]]}}, "infos/step' are no array"),
        ({"infos": {"time": np.zeros(STEPS, "M8[s]")}}, r"infos/time' has type datetime64\[s\]"),
        ({"infos": {"phase": np.zeros(STEPS, complex)}}, "infos/phase' has type complex128"),
        ({"episode_ends": [[3], [6]]}, r"episode ends are int64 of shape \(2, 1\)"),
        ({"episode_ends": [3.0, 6.0]}, "episode ends are float64"),
        ({"episode_ends": [False, False, True] * 2}, r"episode ends are bool .* numpy.flatnonzero\(flags\) \+ 1"),
    ],
)
def test_what_cannot_be_a_column_is_refused(changed, words):
    with pytest.raises(DatasetError, match=words):
        Dataset(name="buffer", **{**BUFFER, **changed})


def test_a_dataset_has_a_name():
    with pytest.raises(UsageError, match="name is None; expected a text"):
        Dataset(name=None, **BUFFER)


@pytest.mark.parametrize(("tensor"), [
    torch.zeros(STEPS, 2, requires_grad=True), torch.zeros(STEPS, 2, dtype=torch.bfloat16)
], ids=["requires grad", "bfloat16"])  # fmt: skip
def test_a_tensor_that_numpy_cannot_read_is_refused_with_what_to_give(tensor):
    hint = r"detach\(\)\.cpu\(\)\.float\(\)"
    with pytest.raises(DatasetError, match=f"buffer: 'actions' are no array .*{hint}"):
        Dataset(name="buffer", **{**BUFFER, "actions": tensor})
    with pytest.raises(DatasetError, match=f"buffer: 'infos/noise' are no array .*{hint}"):
        Dataset(name="buffer", **BUFFER, infos={"noise": tensor})
    made = Dataset(name="buffer", **{**BUFFER, "actions": tensor.detach().cpu().float()})
    np.testing.assert_array_equal(made.actions, np.zeros((STEPS, 2), np.float32))


@pytest.mark.parametrize(("changed", "words"), [
    ({"metadata": None}, "buffer: metadata is of type NoneType; expected DatasetMetadata. Leave it out"),
    ({"metadata": {"environment": "Pendulum-v1"}}, "buffer: metadata is of type dict; expected DatasetMetadata"),
    ({"infos": None}, "buffer: infos is of type NoneType; expected Mapping. Leave it out"),
    ({"extras": [1]}, "buffer: extras is of type list; expected Mapping"),
])  # fmt: skip
def test_what_lies_beside_the_columns_is_of_its_kind(changed, words):
    with pytest.raises(UsageError, match=words):
        Dataset(name="buffer", **{**BUFFER, **changed})


def test_a_dataset_is_shown_in_a_line():
    shown = repr(Dataset(name="buffer", **BUFFER))
    assert "6 timesteps in 2 episodes, observations (6, 3) float32" in shown
    assert len(shown.splitlines()) == 1


def test_numbers_are_not_looked_at_where_the_type_is_right():
    """A file of a hundred million timesteps is opened without reading it."""
    holes = np.full((STEPS, 3), np.nan, np.float32)
    assert np.isnan(Dataset(name="buffer", **{**BUFFER, "observations": holes}).observations).all()


@pytest.mark.parametrize("block", [1, 4, 7, 1000])
def test_the_largest_return_to_go_is_that_of_a_slow_sum(block, monkeypatch):
    monkeypatch.setattr(dataset_module, "BLOCK_ROWS", block)
    rng, ends = np.random.default_rng(3), np.array([3, 4, 9, 10, 16, 23])
    for scale in (1.0, np.linspace(5, 0.1, 23), np.linspace(0.1, 5, 23)):
        rewards = (rng.normal(size=23) * scale).astype(np.float32)
        steps = {name: np.zeros((23, 1)) for name in ("observations", "actions")}
        made = Dataset(
            name="x", **steps, rewards=rewards, terminations=np.zeros(23), truncations=np.isin(np.arange(1, 24), ends),
            next_observations=None, episode_ends=ends,
        )  # fmt: skip
        starts = [0, *ends[:-1]]
        slow = [abs(rewards[t:end].astype(float).sum()) for start, end in zip(starts, ends) for t in range(start, end)]
        assert made.largest_return_to_go() == pytest.approx(max(slow))
