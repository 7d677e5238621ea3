"""One update of Soft Actor-Critic written from the equations: plain matrices, autograd, and Adam by hand.

Eqs 5 to 8 of the report (value form) and Haarnoja et al. 2018b (two Q-functions, learned temperature).
"""

from __future__ import annotations

import math

import torch


def perceptron(weights, inputs):
    """`weights` is [(matrix, bias), ...] of one network; ReLU between layers."""
    for layer, (matrix, bias) in enumerate(weights):
        inputs = inputs @ matrix + bias
        if layer < len(weights) - 1:
            inputs = torch.relu(inputs)
    return inputs


def policy_sample(weights, observations, noise):
    """Squashed Gaussian: action and log-density by the change of variables."""
    mean, log_std = perceptron(weights, observations).chunk(2, dim=1)
    log_std = log_std.clamp(-20, 2)
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * ((u - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    return torch.tanh(u), (log_normal - torch.log(1 - torch.tanh(u) ** 2)).sum(1)


def q_value(weights, observations, actions):
    return perceptron(weights, torch.cat([observations, actions], dim=1))[:, 0]


def adam_first_step(parameters, loss, rate):
    """The first step of Adam from zero moments: m-hat = g, v-hat = g^2."""
    gradients = torch.autograd.grad(loss, parameters)
    return [p - rate * g / (g.abs() + 1e-8) for p, g in zip(parameters, gradients)]


def flat(weights):
    return [value for pair in weights for value in pair]


def pairs(values):
    return list(zip(values[::2], values[1::2]))


def lerp(old, new, rate):
    return [(1 - rate) * a + rate * b for a, b in zip(old, new)]


def value_form(networks, batch, noise, *, discount, temperature, rate, tau):
    """Return (losses, new networks). `networks`: policy, q, value, value_target as [(matrix, bias), ...]."""
    policy, q, value, target = (networks[name] for name in ("policy", "q", "value", "value_target"))
    s, a, r, following, dead = batch
    actions, log_probs = policy_sample(policy, s, noise[: len(s)])
    with torch.no_grad():
        bellman = r + discount * torch.where(dead, 0.0, perceptron(target, following)[:, 0])  # Eq. 7
    q_loss = (0.5 * (q_value(q, s, a) - bellman) ** 2).mean()  # Eq. 6
    new_q = pairs(adam_first_step(flat(q), q_loss, rate))
    q_of_policy = q_value(new_q, s, actions)
    policy_loss = (temperature * log_probs - q_of_policy).mean()  # Eq. 8
    soft = (q_of_policy - temperature * log_probs).detach()
    value_loss = (0.5 * (perceptron(value, s)[:, 0] - soft) ** 2).mean()  # Eq. 5
    new_value = adam_first_step(flat(value), value_loss, rate)
    new = {
        "q": new_q, "policy": pairs(adam_first_step(flat(policy), policy_loss, rate)), "value": pairs(new_value),
        "value_target": pairs(lerp(flat(target), new_value, tau)),
    }  # fmt: skip
    return {"q": q_loss, "policy": policy_loss, "value": value_loss}, new


def twin_form(networks, batch, noise, *, discount, temperature, rate, tau):
    """Return (losses, new networks, new log temperature). `networks`: policy, q1, q2, q1_target, q2_target."""
    policy = networks["policy"]
    s, a, r, following, dead = batch
    actions, log_probs = policy_sample(policy, s, noise[: len(s)])
    with torch.no_grad():
        next_actions, next_log_probs = policy_sample(policy, following, noise[len(s) :])
        smaller = torch.minimum(*(q_value(networks[f"q{i}_target"], following, next_actions) for i in (1, 2)))
        bellman = r + discount * torch.where(dead, 0.0, smaller - temperature * next_log_probs)
    new, q_loss = {}, 0.0
    for i in (1, 2):
        loss = (0.5 * (q_value(networks[f"q{i}"], s, a) - bellman) ** 2).mean()
        new_q = adam_first_step(flat(networks[f"q{i}"]), loss, rate)
        new[f"q{i}"], new[f"q{i}_target"] = pairs(new_q), pairs(lerp(flat(networks[f"q{i}_target"]), new_q, tau))
        q_loss = q_loss + loss
    policy_loss = (temperature * log_probs - torch.minimum(*(q_value(new[f"q{i}"], s, actions) for i in (1, 2)))).mean()
    new["policy"] = pairs(adam_first_step(flat(policy), policy_loss, rate))
    log_temperature = torch.tensor(math.log(temperature), dtype=s.dtype, requires_grad=True)
    temperature_loss = -(log_temperature * (log_probs.detach() - a.shape[1])).mean()  # target entropy: -dimensions
    (new_log_temperature,) = adam_first_step([log_temperature], temperature_loss, rate)
    return {"q": q_loss, "policy": policy_loss, "temperature": temperature_loss}, new, new_log_temperature
