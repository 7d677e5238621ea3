"""Search without keys that are kept or windows that are batched, and models whose answers stand in a table."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from foretell.models.configs import SequenceShape
from foretell.models.trajectory_transformer import Read, TrajectoryTransformer
from reference.making import small_model

NUMBER = SequenceShape(observation_shape=(1,), action_dim=1, discrete=False, max_timesteps=30)
PLANE = SequenceShape(observation_shape=(1,), action_dim=2, discrete=False, max_timesteps=30)
CHOICE = SequenceShape(observation_shape=(1,), action_dim=4, discrete=True, max_timesteps=30)
SHAPES = {"number": NUMBER, "plane": PLANE, "choice": CHOICE}


def tiny(kind="number", seed=0, **changes):
    """Three bins and the end, or four choices and the end; sure of little, so that greedy search goes wrong."""
    model = small_model("trajectory-transformer", SHAPES[kind], seed=seed, spread=0.15, bins=3, **changes)
    model.requires_grad_(False).embed_symbol.weight.mul_(2.0)
    model.heads.mul_(0.5)
    return model


def windows(model, timesteps=2, count=6, seed=1):
    """Symbols of windows that end with an observation, and a goal for each."""
    rng = np.random.default_rng(seed)
    tokens = torch.from_numpy(rng.integers(3, size=(count, (timesteps - 1) * model.slots + 1)))
    return tokens, torch.from_numpy(rng.integers(3, size=(count, 1)))


def logits_after(model, tokens, goal=None):
    """Logits of the symbol behind the tokens of one window, nothing kept, nothing batched."""
    timesteps = -(-len(tokens) // model.slots)
    filled = torch.zeros(1, timesteps * model.slots, dtype=torch.int64)
    filled[0, : len(tokens)] = torch.tensor(tokens)
    mask = torch.ones(1, timesteps, dtype=torch.bool)
    front = None if goal is None else goal[None]
    return model.logits(filled.unflatten(1, (-1, model.slots)), mask, front=front)[0, len(tokens) - 1]


def choices(model, place):
    """How many symbols have a meaning at a place of the window."""
    return 4 if model.shape.discrete and place % model.slots == 1 else 3


def exhaustive(model, tokens, steps, goal=None):
    """The likeliest of all continuations, and how far the next one is behind, nats."""
    found = {}

    def go_on(whole, score):
        if len(whole) == len(tokens) + steps:
            found[tuple(whole[len(tokens) :])] = score
            return
        allowed = logits_after(model, whole, goal)[: choices(model, len(whole))].log_softmax(0)
        for symbol, logarithm in enumerate(allowed.tolist()):
            go_on([*whole, symbol], score + logarithm)

    go_on(tokens, 0.0)
    ordered = sorted(found, key=found.get, reverse=True)
    return ordered[0], found[ordered[0]] - found[ordered[1]]


def greedy(model, tokens, steps, goal=None):
    whole = list(tokens)
    for _ in range(steps):
        whole.append(int(logits_after(model, whole, goal)[: choices(model, len(whole))].argmax()))
    return tuple(whole[len(tokens) :])


def best_slowly(model, tokens, config, worth=None, return_scale=1.0, goal=None):
    """The first action of the best of all plans, and how far the best one with another first action is behind.

    Observations are the likeliest, as are rewards and returns where they are read; means are what they are worth.
    """
    found: dict[tuple, float] = {}

    def mean(whole):
        slot = len(whole) % model.slots
        shares = logits_after(model, whole, goal)[:3].softmax(0)
        return float((shares * model.discretizer.centers[slot]).sum()), int(shares.argmax())

    def go_on(whole, earned, timestep, first):
        for action in itertools.product(*[range(choices(model, 1))] * model.action_slots):
            taken = [*whole, *action]
            reward, likely = mean(taken)
            rest, future = mean([*taken, likely])
            rest *= return_scale
            if worth is not None:
                rest = worth(whole[-1], action)
            begun = first or action
            if timestep + 1 == config.horizon:
                total = earned + config.discount**timestep * rest
                found[begun] = max(found.get(begun, -np.inf), total)
                continue
            now = earned + config.discount**timestep * reward
            logits = logits_after(model, [*taken, likely, future], goal)
            ahead = int(logits[[0, 1, 2, model.stop]].argmax())
            if ahead == 3:  # the end
                found[begun] = max(found.get(begun, -np.inf), now)
                continue
            go_on([*taken, likely, future, ahead], now, timestep + 1, begun)

    go_on(list(tokens), 0.0, 0, None)
    ordered = sorted(found, key=found.get, reverse=True)
    return ordered[0], found[ordered[0]] - found[ordered[1]]


class TableModel(TrajectoryTransformer):
    """Foretells by a rule, and counts nothing on its own: branches keep the symbols that they read."""

    rule = staticmethod(lambda symbols: None)

    def read(self, symbols, front=None):
        return self._of(symbols[:, None])[:, 0], Read([symbols[:, None, :, None].float()], [], symbols >= 0)

    def extend(self, symbols, place, read, branches):
        assert place == read.seen.shape[1] + branches[0][0].shape[3]
        own = torch.cat([branches[0][0], symbols[:, None, :, None, None].float()], 3)
        begun = read.keys[0][:, :, :, 0].expand(-1, symbols.shape[1], -1)
        return self._of(torch.cat([begun, own[:, 0, :, :, 0]], -1).long()), [(own, own)]

    def no_branches(self, batch, count):
        return [(torch.zeros(batch, 1, count, 0, 1),) * 2]

    def _of(self, symbols):
        rows = [[self.rule(tuple(branch)) for branch in window] for window in symbols.tolist()]
        return torch.tensor(rows).clamp_min(1e-9).log()


def table(rule):
    """Slots 0 to 3 are an observation, an action, its reward and return-to-go: 0, 1, 2 of each; 3 is the end."""
    config = tiny().config
    model = TableModel(config, NUMBER, torch.Generator().manual_seed(0)).requires_grad_(False)
    model.discretizer.edges[:] = torch.tensor([-0.5, 0.5, 1.5, 2.5])
    model.rule = rule
    return model
