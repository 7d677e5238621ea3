"""Training windows, one timestep at a time in plain Python."""

from __future__ import annotations

import numpy as np
import torch


def windows_slowly(dataset, last, context_length):
    """Per requested row: a list of `context_length` dicts, or None for padding; raw units."""
    found = []
    for row in last:
        episode = next(i for i, end in enumerate(dataset.episode_ends) if row < end)
        start, end = int(dataset.episode_starts[episode]), int(dataset.episode_ends[episode])
        window = []
        for r in range(row - context_length + 1, row + 1):
            if r < start:
                window.append(None)
                continue
            window.append({
                "observations": dataset.observations[r], "actions": dataset.actions[r],
                "returns_to_go": sum(float(reward) for reward in dataset.rewards[r:end]), "timesteps": r - start,
                "rewards": dataset.rewards[r], "terminations": dataset.terminations[r],
            })  # fmt: skip
        found.append(window)
    return found


def as_rows(batch):
    """A SequenceBatch in the same form."""
    columns = {name: np.asarray(value) for name, value in vars(batch).items()}
    return [
        [
            {name: values[b, t] for name, values in columns.items() if name not in ("mask", "goals")}
            if columns["mask"][b, t] else None
            for t in range(columns["mask"].shape[1])
        ]
        for b in range(len(columns["mask"]))
    ]  # fmt: skip


def assert_equal(found, expected, rtol=0.0):
    """Require that two batches hold the same, of the same types, but for `rtol` of each number."""
    for name, value in vars(expected).items():
        other = getattr(found, name)
        assert (value is None) == (other is None), name
        if value is not None:
            assert other.dtype == value.dtype, name
            torch.testing.assert_close(other, value, rtol=rtol, atol=0.0, msg=name)
