"""Rows of the table of pitfalls that concern symbols and planning; each twice: the rule, and its breach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance import checks
from conformance.checks import notices
from foretell.evaluation import planned, planning
from foretell.evaluation.configs import PlanningConfig
from foretell.evaluation.planned import PlanningPolicy
from foretell.models import layers
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.sequences.discretization import Discretizer
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking
from reference.making import SHAPES, each, random_batch, scaled
from reference.trajectory import FRONTS, toward, trajectory_model

kinds = pytest.mark.parametrize("kind", SHAPES)


@torch.no_grad()
def check_symbols_and_numbers():
    """Columns to symbols and back, through the network: every number within half of its own slot's bin."""
    model = trajectory_model()
    batch = random_batch(real=(4, 4))
    columns = torch.cat([batch.observations, batch.actions, batch.rewards[..., None], batch.returns_to_go], -1)
    edges = model.discretizer.edges
    assert float(edges.std(0).min()) > 1e-2, "all slots have the same bins"
    symbols = model.symbols(batch)
    for first in (0, 3, 6):
        back = model.numbers(symbols[..., first:], first)
        slots = torch.arange(first, model.slots)
        low, high = edges[slots, symbols[..., first:]], edges[slots, symbols[..., first:] + 1]
        inside = columns[..., first:].clamp(edges[first:, 0], edges[first:, -1])
        assert ((back - inside).abs() <= (high - low) / 2 + 1e-6).all()
    torch.testing.assert_close(model.mean(torch.eye(10)[:9] * 1e4, 4), model.numbers(torch.arange(9)[:, None], 4)[:, 0])


def test_row_20_symbols_and_numbers_have_the_same_bins():
    check_symbols_and_numbers()


def test_row_20_notices_the_fault(monkeypatch):
    plain = TrajectoryTransformer.numbers
    faults = (
        (Discretizer, "centers", property(lambda self: self.edges[:, :-1])),
        (TrajectoryTransformer, "numbers", lambda self, symbols, first: plain(self, symbols, max(0, first - 1))),
    )
    for owner, name, fault in faults:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fault)
            notices(check_symbols_and_numbers)


@torch.no_grad()
def check_returns_unseen():
    """Other returns-to-go change what is predicted from their own token, and from none else."""
    model = trajectory_model()
    mask = torch.ones(2, 4, dtype=torch.bool)
    symbols = model.symbols(random_batch(real=(4, 4)))
    changed = symbols.clone()
    changed[..., -1] = (symbols[..., -1] + 3) % 9
    distance = (model.logits(changed, mask) - model.logits(symbols, mask)).abs().amax((0, 2))
    own = torch.arange(4 * model.slots) % model.slots == model.slots - 1
    assert float(distance[~own].max()) < 1e-6
    assert float(distance[own].min()) > 1e-2
    batch = random_batch(real=(4, 3))
    told = replace(batch, returns_to_go=batch.returns_to_go + 2.0)
    torch.testing.assert_close(model(told), model(batch), atol=1e-6, rtol=0)


def test_row_21_returns_are_seen_by_no_other_token():
    check_returns_unseen()


def test_row_21_notices_returns_that_are_seen(monkeypatch):
    monkeypatch.setattr(TrajectoryTransformer, "_seen", lambda self, tokens: torch.ones(tokens, dtype=torch.bool))
    notices(check_returns_unseen)


@torch.no_grad()
def check_cache(kind="continuous", front=None):
    """Read a beginning of any length, extend branches by different symbols, drop some, double some, go on."""
    model = trajectory_model(kind, **(front or {}))
    batch = toward(random_batch(SHAPES[kind], real=(4, 4)))
    before = model.front(batch)
    generator, slots = torch.Generator().manual_seed(0), model.slots
    total = 4 * slots
    for begun in (1, 3, slots - 1, slots, slots + 2, 2 * slots + 3):
        symbols = model.symbols(batch).flatten(1)[:, :begun]
        beams = planning._Beams.start(model, symbols, before, 3)
        whole = symbols[:, None].expand(-1, 3, -1)
        for place in range(begun, min(total, begun + 2 * slots) + 1):
            filled = torch.zeros(2, whole.shape[1], total, dtype=torch.int64)
            filled[..., :place] = whole
            for branch in range(whole.shape[1]):
                expected = model.logits(filled[:, branch].unflatten(1, (4, slots)), batch.mask, front=before)
                np.testing.assert_allclose(beams.logits[:, branch], expected[:, place - 1], atol=1e-5, rtol=1e-5)
            if place == total:
                break
            chosen = torch.randint(9, whole.shape[:2], generator=generator)
            if SHAPES[kind].discrete and place % slots == 3:
                chosen = chosen % 4
            beams.append(chosen)
            whole = torch.cat([whole, chosen[..., None]], -1)
            if place % 3 == 0:
                kept = torch.randint(whole.shape[1], (2, 4), generator=generator)
                beams.select(kept)
                whole = whole.gather(1, kept[..., None].expand(-1, -1, whole.shape[-1]))
        assert torch.equal(beams.symbols, whole[..., begun:])


@kinds
@pytest.mark.parametrize("front", FRONTS, ids=" ".join)
def test_row_21_kept_keys_and_values_give_the_same_logits(kind, front):
    check_cache(kind, front)


def test_row_21_notices_faults_of_the_cache(monkeypatch):
    plain, extend = layers.Block.extend, TrajectoryTransformer.extend

    def returns_seen(self, token, keys, values, seen, own):
        return plain(self, token, keys, values, torch.ones_like(seen), own)

    def moved(self, symbols, place, read, branches):
        return extend(self, symbols, place - 1, read, branches)

    def others_branches(kept, chosen):
        return (
            kept[:, :, : chosen.shape[1]] if kept.shape[2] >= chosen.shape[1] else kept.repeat(1, 1, 2, 1, 1)[:, :, :4]
        )

    for owner, name, fault in (
        (layers.Block, "extend", returns_seen), (TrajectoryTransformer, "extend", moved),
        (planning, "_selected", others_branches),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fault)
            notices(check_cache)


@torch.no_grad()
def check_window_slides(horizon=2):
    """Ten timesteps with a window of four: every action is that of a plan made of the window's symbols alone."""
    model = trajectory_model()
    config = PlanningConfig(horizon=horizon, beam_width=8)
    asking = Asking(telling=Telling(condition="none"), target=0.0)
    policy = PlanningPolicy(model, scaled(), asking, config, "return")
    rng = np.random.default_rng(5)
    observations, rewards = rng.normal(size=(10, 3)).astype(np.float32), rng.normal(size=10)
    decided, shown = checks.watch(policy), []
    plain = policy._choose
    policy._choose = lambda batch: shown.append(each(batch, torch.clone)) or plain(batch)
    checks.play(policy, observations, rewards)
    for t, (batch, action) in enumerate(zip(shown, decided, strict=True)):
        past = min(t, 4 - horizon)
        assert batch.timesteps[0, -past - 1 :].tolist() == list(range(t - past, t + 1))
        window = model.symbols(batch)[:, -past - 1 :].clone()
        mask = torch.ones(1, past + 1, dtype=torch.bool)
        expected = model.logits(window, mask, only=past * model.slots + 2)[:, 0]
        found, _ = model.read(window.flatten(1)[:, : past * model.slots + 3])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        fresh = planning.best_actions(model, window.flatten(1)[:, : past * model.slots + 3], config, None, 10.0)
        np.testing.assert_array_equal(action, model.numbers(fresh, 3))
    assert np.ptp(np.stack(decided), axis=0).max() > 1e-2


def _streaming(monkeypatch):
    """Keys of deep layers that have seen the timestep that was dropped since."""
    plain, last = TrajectoryTransformer.read, []

    def read(self, symbols, front=None):
        slots = self.slots
        if last and last[-1].shape == symbols.shape and symbols.shape[1] > slots:
            longer = torch.cat([last[-1][:, :slots], symbols], 1)
            logits, found = plain(self, longer, front)
            kept = [[part[:, :, slots:] for part in parts] for parts in (found.keys, found.values)]
            found = type(found)(kept[0], kept[1], found.seen[:, slots:])
        else:
            logits, found = plain(self, symbols, front)
        last.append(symbols)
        return logits, found

    monkeypatch.setattr(TrajectoryTransformer, "read", read)


def _one_timestep_short(monkeypatch):
    plain = planned.best_actions

    def shorter(model, symbols, *rest):
        return plain(model, symbols[:, model.slots if symbols.shape[1] > model.slots else 0 :], *rest)

    monkeypatch.setattr(planned, "best_actions", shorter)


@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_row_22_plans_are_made_of_the_window_alone(horizon):
    check_window_slides(horizon)


@pytest.mark.parametrize("fault", [_streaming, _one_timestep_short])
def test_row_22_notices_the_fault(fault, monkeypatch):
    fault(monkeypatch)
    notices(check_window_slides)
