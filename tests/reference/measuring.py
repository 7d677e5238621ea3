"""The evaluation as everyone writes it first: one episode at a time in Gymnasium. And simple policies."""

from __future__ import annotations

import gymnasium
import numpy as np


class Leaning:
    """CartPole: push to where the pole leans. Falls after a few dozen steps, at a time that depends on the start."""

    def reset(self, num_envs, target_return=None):
        """Nothing to remember."""

    def act(self, observations):
        return (observations[:, 2] > 0).astype(np.int64)

    def observe(self, rewards):
        """Nothing to remember."""


def one_at_a_time(make_policy, environment, starts, target_return=None):
    """Return and length of one episode from each start, each with a policy of its own."""
    returns, lengths = [], []
    for start in starts:
        env = gymnasium.make(environment)
        observation, _ = env.reset(seed=start)
        policy = make_policy()
        policy.reset(1, target_return)
        total, length, ended = 0.0, 0, False
        while not ended:
            action = policy.act(observation[None])[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            policy.observe(np.array([reward], np.float64))
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
        env.close()
    return returns, lengths
