from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from foretell.core.errors import DivergedError
from foretell.values import evidence
from foretell.values.configs import DynamicsConfig
from foretell.values.evidence import maximise_evidence
from foretell.values.gaussian_process import GaussianProcess

QUICK = DynamicsConfig(updates=20)


@pytest.fixture(autouse=True)
def nothing_learned_before(monkeypatch):
    monkeypatch.setattr(evidence, "_learned", {})


def _timesteps(scale=1.0):
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, scale * x[:, :1] * x[:, 1:]


def _learn(config=QUICK, scale=1.0):
    process, updates = GaussianProcess(2, 1, 2), []
    x, y = _timesteps(scale)
    process.scale_features(x)
    found = maximise_evidence(process, x, y, config, lambda done, total, **numbers: updates.append((done, total)))
    return process, found, updates


def test_learning_raises_the_evidence_and_keeps_within_bounds():
    assert _learn()[1] > _learn(replace(QUICK, updates=1))[1] + 5
    assert float(_learn()[0].noise.detach().min()) >= -10


def test_the_same_timesteps_are_learned_once():
    first, found, updates = _learn()
    assert updates == [(n, 20) for n in range(1, 21)]
    again, remembered, updates = _learn()
    assert (remembered, updates) == (found, [(20, 20)])
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_what_is_remembered_is_not_what_a_process_goes_on_with():
    process, found, _ = _learn()
    with torch.no_grad():
        process.noise.fill_(7.0)
    again, remembered, _ = _learn()
    assert remembered == found
    assert float(again.noise.detach().max()) < 0


def test_other_timesteps_and_other_settings_are_learned_anew():
    found = [_learn()[1], _learn(scale=1.5)[1], _learn(replace(QUICK, learning_rate=0.05))[1]]
    assert len(set(found)) == 3
    assert len(evidence._learned) == 3


def test_few_are_remembered(monkeypatch):
    monkeypatch.setattr(evidence, "KEPT", 2)
    for updates in (1, 2, 3):
        _learn(replace(QUICK, updates=updates))
    assert len(evidence._learned) == 2
    assert len(_learn(replace(QUICK, updates=3))[2]) == 1  # one report: remembered
    _learn(replace(QUICK, updates=1))  # in place of the oldest, 2
    assert len(_learn(replace(QUICK, updates=2))[2]) == 2
    assert len(evidence._learned) == 2


def test_what_diverges_is_not_remembered():
    for _ in range(2):
        with pytest.raises(DivergedError, match="log evidence nan"):
            _learn(scale=float("nan"))
