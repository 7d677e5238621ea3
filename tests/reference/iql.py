"""Implicit Q-learning written from the equations of Kostrikov et al. 2021, in plain NumPy, gradients by hand."""

from __future__ import annotations

import numpy as np


def forward(weights, inputs):
    """`weights` is [(matrix, bias), ...]; ReLU between layers. Return the output and every layer's input."""
    seen = []
    for layer, (matrix, bias) in enumerate(weights):
        seen.append(inputs)
        inputs = inputs @ matrix + bias
        if layer < len(weights) - 1:
            inputs = np.maximum(inputs, 0.0)
    return inputs, seen


def value(weights, inputs):
    """A network of one output: a number for each row, and every layer's input."""
    outputs, seen = forward(weights, inputs)
    return outputs[:, 0], seen


def backward(weights, seen, output_gradient):
    """Gradient of every matrix and bias, by the chain rule."""
    gradients, upstream = [], output_gradient
    for layer in range(len(weights) - 1, -1, -1):
        gradients.insert(0, (seen[layer].T @ upstream, upstream.sum(0)))
        upstream = (upstream @ weights[layer][0].T) * (seen[layer] > 0)
    return gradients


def adam(weights, gradients, moments, step, rate):
    """One step of Adam (betas 0.9 and 0.999, epsilon 1e-8). `moments` is changed in place."""
    new = []
    for layer, (pair, slopes) in enumerate(zip(weights, gradients)):
        changed = []
        for part in (0, 1):
            m, v = moments.get((layer, part), (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * slopes[part], 0.999 * v + 0.001 * slopes[part] ** 2
            moments[layer, part] = (m, v)
            changed.append(pair[part] - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8))
        new.append(tuple(changed))
    return new


def expectile_loss(difference, expectile):
    """One number: Eq. 5."""
    return (expectile if difference >= 0 else 1 - expectile) * difference**2


def bellman_target(reward, terminated, next_value, discount):
    """One number: the inside of Eq. 6."""
    return reward if terminated else reward + discount * next_value


def update(networks, moments, batch, step, *, expectile, beta, discount, rate, tau):
    """Take update `step` (from 1). `networks`: value, q0, q1, slow0, slow1, policy. Return losses and new networks."""
    s, a, r, following, dead = batch
    count, both = len(s), np.concatenate([s, a], axis=1)
    new, losses = {}, {}

    slow = np.minimum(value(networks["slow0"], both)[0], value(networks["slow1"], both)[0])
    values, seen = value(networks["value"], s)
    differences = slow - values
    losses["value_loss"] = sum(expectile_loss(u, expectile) for u in differences) / count
    slopes = np.array([-2 * (expectile if u >= 0 else 1 - expectile) * u for u in differences]) / count
    gradients = backward(networks["value"], seen, slopes[:, None])
    new["value"] = adam(networks["value"], gradients, moments["value"], step, rate)

    next_values = value(networks["value"], following)[0]
    targets = np.array([bellman_target(*row, discount) for row in zip(r, dead, next_values)])
    losses["q_loss"] = 0.0
    for i in (0, 1):
        q, seen = value(networks[f"q{i}"], both)
        losses["q_loss"] += sum((targets - q) ** 2) / count
        gradients = backward(networks[f"q{i}"], seen, 2 * (q - targets)[:, None] / count)
        new[f"q{i}"] = adam(networks[f"q{i}"], gradients, moments[f"q{i}"], step, rate)
        new[f"slow{i}"] = [
            tuple((1 - tau) * old + tau * learned for old, learned in zip(*layers))
            for layers in zip(networks[f"slow{i}"], new[f"q{i}"])
        ]

    outputs, seen = forward(networks["policy"], s)
    actions = np.tanh(outputs)
    weights = np.array([min(np.exp(beta * u), 100.0) for u in differences])[:, None]
    losses["policy_loss"] = (weights * (actions - a) ** 2).sum() / count
    slopes = weights * 2 * (actions - a) * (1 - actions**2) / count
    new["policy"] = adam(networks["policy"], backward(networks["policy"], seen, slopes), moments["policy"], step, rate)
    return losses, new


def relabelled(rewards, values, ends):
    """Returns-to-go of Yamagata et al. 2022, one timestep after the other from the back."""
    returns, ends = np.zeros(len(rewards)), set(ends)
    for t in reversed(range(len(rewards))):
        returns[t] = rewards[t] + (0.0 if t + 1 in ends else max(returns[t + 1], values[t + 1]))
    return returns
