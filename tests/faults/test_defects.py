from __future__ import annotations

import contextlib
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import foretell
from faults import defects, episode_defects  # noqa: F401  they fill the catalogue
from faults.clean_recordings import CLEAN, findings
from faults.defect_cases import CATALOGUE, ERROR, inspected, problems, run
from faults.defect_forms import FORMS, play, write
from foretell.core.errors import DatasetError
from foretell.datasets.doctor import diagnose
from foretell.datasets.registry import open_dataset
from foretell.datasets.rules import KNOWN
from foretell.environments.making import environment_spec

SOURCE = Path(foretell.__file__).parent / "datasets"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setenv("MINARI_DATASETS_PATH", "")  # set by each form that needs it, and put back


@pytest.mark.parametrize("form", [form for form in FORMS if form != "d4rl-named"])  # that one: `make faults`
@pytest.mark.parametrize("one", CATALOGUE, ids=lambda one: one.name)
def test_a_defect_is_named_and_refused_where_it_is_an_error(one, form, tmp_path):
    if one.found[form] is None:
        assert one.blind
        return
    assert problems(one, form, tmp_path) == []


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_in_a_clean_recording(name, tmp_path):
    assert findings(name, tmp_path) == []


def test_there_are_as_many_as_promised():
    assert len({one.name for one in CATALOGUE}) == len(CATALOGUE) >= 24
    assert len(CLEAN) >= 20
    for form in FORMS:
        assert sum(one.found[form] is not None for one in CATALOGUE) >= 24, form


def test_every_check_of_the_doctor_has_a_defect_that_it_finds(tmp_path):
    written = set()
    for path in SOURCE.glob("doctor*.py"):
        written |= set(re.findall(r'(?:error|warning|make)\("(\w+)", ', path.read_text(encoding="utf-8")))
    assert len(written) > 15
    found = set()
    for form in ("foretell", "d4rl"):
        for one in CATALOGUE:
            with contextlib.suppress(DatasetError):
                name, _ = write(one.make(), form, tmp_path)
                data = open_dataset(name)
                spec = environment_spec(data.metadata.environment) if data.metadata.environment else None
                found |= {finding.check for finding in diagnose(data, spec)}
    assert found == written


@pytest.mark.parametrize("environment", KNOWN)
def test_rules_are_gymnasiums(environment):
    """200 states on the way of random play, ends included, each stepped by Gymnasium itself."""
    env = gymnasium.make(environment)
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    rows = []
    for _ in range(300):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, following, reward, terminated))
        observation = env.reset()[0] if terminated or truncated else following
    env.close()
    observations, actions, following, rewards, terminations = map(np.array, zip(*rows))
    expected = KNOWN[environment](observations, actions)
    np.testing.assert_allclose(expected[0], following, atol=2e-5)
    np.testing.assert_allclose(expected[1], rewards, atol=2e-5)
    np.testing.assert_array_equal(expected[2], terminations)
    assert terminations.any() == environment.startswith("CartPole")


def test_a_recording_that_is_only_odd_is_trained_on(tmp_path):
    name, _ = write(play([200, 250]), "foretell", tmp_path)
    code, out, err = run(
        "train", name, "--out", str(tmp_path / "run"), "--threads", "1", "--json", "--algorithm", "mlp", "--condition",
        "none", "--updates", "2", "--batch-size", "2",
    )  # fmt: skip
    assert code == 0, err
    assert len(err.splitlines()) == 1
    assert err.startswith("foretell: warning: ")
    assert "episode 1 has 250 timesteps" in err
    assert '"training"' in out


def test_every_error_is_said_before_any_warning(tmp_path):
    recording = play([200, 250])
    recording.columns["actions"][3] = 2.5
    name, _ = write(recording, "foretell", tmp_path)
    severities = [finding["severity"] for finding in inspected(name, ())[1]]
    assert severities == sorted(severities)
    assert severities[0] == ERROR
