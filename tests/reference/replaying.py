"""Playing a recorded dataset again in Gymnasium, one step at a time."""

from __future__ import annotations

import gymnasium
import numpy as np

from foretell.core.seeding import stream


def collection_starts(seed, count):
    """Reset seeds of a recording's episodes (documented at `collection.recorder.record`)."""
    return stream(seed, "collection-starts").integers(2**31 - 1, size=count).tolist()


def check_replay(dataset, seed=None, starts=None):
    """Observations, rewards and ends of every episode are what Gymnasium gives for its start and its actions."""
    starts = starts or collection_starts(seed, dataset.num_episodes)
    environment = gymnasium.make(dataset.metadata.environment)
    for index, start in enumerate(starts):
        episode = dataset.episode(index)
        observation, _ = environment.reset(seed=start)
        terminated = truncated = False
        for t in range(len(episode)):
            ended = terminated or truncated
            assert not ended, f"episode {index} went on after its end at timestep {t}"
            np.testing.assert_allclose(episode.observations[t], observation, atol=1e-5, err_msg=f"{index}, {t}")
            observation, reward, terminated, truncated, _ = environment.step(episode.actions[t])
            np.testing.assert_allclose(episode.rewards[t], reward, atol=1e-5, err_msg=f"{index}, {t}")
        np.testing.assert_allclose(episode.observations[-1], observation, atol=1e-5)
        assert terminated == episode.terminated
        if index < dataset.num_episodes - 1:
            assert truncated == bool(episode.truncations[-1])
    environment.close()
