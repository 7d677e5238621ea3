from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from foretell.cli.cards import dataset_card_text
from foretell.collection.recipes import collect_random
from foretell.core.errors import DatasetError
from foretell.datasets.card import dataset_card
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_d4rl
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose
from foretell.environments.making import EnvironmentSpec, environment_spec
from reference.making import make_dataset

SPEC = EnvironmentSpec(
    name="Test-v0", observation_shape=(3,), action_dim=1, action_low=(-2.0,), action_high=(2.0,), num_actions=None,
    horizon=200,
)  # fmt: skip


@pytest.fixture
def dataset(tmp_path, make_episode, metadata):
    rng = np.random.default_rng(0)
    write_d4rl(tmp_path / "good.hdf5", [make_episode(rng, 20) for _ in range(4)], metadata)
    opened = read_d4rl(tmp_path / "good.hdf5")
    return replace(
        opened, stored_fingerprint=None, **{k: np.array(v) for k, v in opened.columns().items() if "/" not in k}
    )


def found(dataset, spec=SPEC):
    return [(finding.severity, finding.check) for finding in diagnose(dataset, spec)]


def test_nothing_is_found_in_good_data(dataset):
    assert diagnose(dataset, SPEC) == []


def test_errors(dataset):
    dataset.rewards[27] = np.nan
    assert found(dataset) == [("error", "finite")]
    assert "rewards holds nan at episode 1, timestep 7" in diagnose(dataset)[0].message
    dataset.rewards[27] = 0
    dataset.actions[45] = 2.01
    assert "action [2.00" in (message := diagnose(dataset, SPEC)[0].message)
    assert "episode 2, timestep 5 is outside the range of Test-v0" in message
    dataset.actions[45] = 2.0001  # a rounding error of a squashed policy
    assert found(dataset) == []
    dataset.truncations[30] = True
    assert found(dataset) == [("error", "flags")]
    assert "episode 1, timestep 10" in diagnose(dataset)[0].message


def test_damaged_flag_bytes_are_found(dataset):
    dataset.truncations.view(np.uint8)[3] = 7
    assert "neither 0 nor 1 at episode 0, timestep 3" in diagnose(dataset)[0].message


def test_edited_columns_are_found(dataset):
    assert found(replace(dataset, stored_fingerprint="0" * 64)) == [("error", "fingerprint")]


def test_actions_of_the_wrong_kind_or_width(dataset):
    assert found(dataset, replace(SPEC, action_dim=2)) == [("error", "actions")]
    assert found(dataset, replace(SPEC, num_actions=3, action_low=None)) == [("error", "actions")]
    discrete = replace(dataset, actions=np.arange(80) % 3)
    assert found(discrete, replace(SPEC, num_actions=3)) == []
    assert "action 2 at episode 0, timestep 2" in diagnose(discrete, replace(SPEC, num_actions=2))[0].message
    assert found(replace(dataset, actions=np.arange(80) % 3 - 1), None) == [("error", "actions")]


def test_warnings(dataset):
    def changed(**columns):
        return found(replace(dataset, **columns))

    still = np.array(dataset.observations)
    still[:, 1] = 5
    following = np.array(dataset.next_observations)
    following[:, 1] = 5
    assert changed(observations=still, next_observations=following) == [("warning", "constant")]
    assert changed(actions=abs(dataset.actions)) == [("warning", "actions")]
    assert changed(actions=np.float32(np.arange(80) % 3).reshape(-1, 1), rewards=dataset.rewards)[0][1] == "actions"
    shifted = np.array(dataset.next_observations)
    shifted[33] += 1
    assert changed(next_observations=shifted) == [("warning", "transitions")]
    assert ("warning", "reading") in found(replace(dataset, notes=("something was assumed.",)))
    assert found(dataset, replace(SPEC, horizon=10)) == [("warning", "lengths")]
    assert found(dataset, replace(SPEC, observation_shape=(4,))) == [("warning", "observations")]
    infos = {"qpos": np.full(80, np.nan)}
    assert changed(infos=infos) == [("warning", "finite")]


def test_time_limits_as_terminations(dataset):
    """As `dones` of a replay buffer that does not tell the two apart."""
    limited = replace(SPEC, horizon=20)
    ends, flags = np.array(dataset.episode_ends) - 1, np.zeros(80, bool)
    flags[ends] = True
    merged = replace(dataset, terminations=flags, truncations=np.zeros(80, bool))
    assert found(merged, limited) == [("warning", "lengths")]
    assert "all 4 episodes that reach the time limit of Test-v0 (20 timesteps) end in terminations" in (
        diagnose(merged, limited)[0].message
    )
    assert found(merged) == [], "no limit is reached"
    assert found(merged, None) == []
    assert found(dataset, limited) == []
    flags = flags.copy()
    flags[ends[2]] = False
    told_apart = replace(dataset, terminations=flags, truncations=np.arange(80) == ends[2])
    assert found(told_apart, limited) == [], "both are recorded"
    flags[ends[1:]] = False
    one = replace(dataset, terminations=flags, truncations=np.isin(np.arange(80), ends[1:]))
    assert found(one, limited) == []


def test_a_single_end_at_the_time_limit_is_no_sign():
    lengths = [7, 20, 11]
    data = make_dataset(lengths)
    last = np.isin(np.arange(38), np.cumsum(lengths) - 1)
    data = replace(data, terminations=last, truncations=np.zeros(38, bool))
    spec = replace(SPEC, action_dim=2, action_low=(-9.0,) * 2, action_high=(9.0,) * 2, horizon=20)
    assert "lengths" not in {check for _, check in found(data, spec)}


def test_repeated_episodes_and_starts(dataset):
    def repeated(values):
        return np.tile(values[:20], (4,) + (1,) * (values.ndim - 1))

    copies = replace(dataset, **{k: repeated(v) for k, v in dataset.columns().items() if "/" not in k})
    assert found(copies) == [("warning", "duplicates"), ("warning", "starts")]
    assert "3 episodes repeat earlier ones (episode 1 equals 0)" in diagnose(copies)[0].message


def test_a_gridworlds_episodes_begin_and_go_alike_by_right(tmp_path):
    data = collect_random("FrozenLake-v1", 300, 0, tmp_path / "lake.hdf5")
    checks = {one.check for one in diagnose(data)}
    assert not checks & {"starts", "duplicates"}
    moved = replace(data, observations=data.observations + 0.5, next_observations=data.next_observations + 0.5)
    assert {one.check for one in diagnose(moved)} >= {"starts", "duplicates"}


def test_long_episodes_of_a_gridworld_repeat_nothing_by_chance_nor_do_other_bits():
    rng = np.random.default_rng(0)

    def twice(observations, *, discrete, steps=100):
        actions = rng.integers(0, 4, 3 * steps) if discrete else rng.normal(size=(3 * steps, 1)).astype(np.float32)
        ends = np.arange(1, 6 * steps + 1) % steps == 0
        return Dataset(
            name="twice", observations=np.concatenate([observations] * 2).astype(np.float32),
            actions=np.concatenate([actions] * 2), rewards=np.zeros(6 * steps, np.float32), terminations=ends & False,
            truncations=ends, next_observations=None, episode_ends=np.flatnonzero(ends) + 1,
        )  # fmt: skip

    def named(data):
        return {one.check for one in diagnose(data)}

    one_hot = np.eye(5)[rng.integers(0, 5, 300)]
    assert "duplicates" in named(twice(one_hot, discrete=True))
    assert "duplicates" not in named(twice(one_hot[:30], discrete=True, steps=10))
    assert "duplicates" in named(twice(one_hot[:30], discrete=False, steps=10))
    assert "duplicates" in named(twice(rng.integers(0, 2, (30, 5)), discrete=True, steps=10))
    assert named(twice(np.zeros((30, 5)), discrete=True, steps=10)) >= {"starts", "duplicates"}


def test_a_small_mean_beside_larger_returns_is_no_zero(tmp_path):
    data = collect_random("FrozenLake-v1", 3_000, 0, tmp_path / "lake.hdf5")
    mean = float(data.episode_returns().mean())
    assert 0 < mean < 0.05
    card = dataset_card(data)
    assert f"mean {mean:.3f}, " in dataset_card_text(card)


def test_a_card_of_long_episodes_by_nobody_known(dataset):
    card = dataset_card(dataset)
    card["episode_lengths"] |= {"min": 1000.0, "max": 2000.0}
    card["behaviour_policy"] = {"algorithm": "", "description": ""}
    lines = dataset_card_text(card).splitlines()
    assert lines[0].endswith("episodes of 1,000 to 2,000 timesteps")
    assert lines[2] == "behaviour policy   not named"
    card["behaviour_policy"] = {"algorithm": "SAC", "description": "Until it walks."}
    assert dataset_card_text(card).splitlines()[2] == "behaviour policy   SAC. Until it walks."


def test_one_recording_that_was_cut_in_two_has_one_such_place():
    data = make_dataset([20, 20])
    data = replace(data, next_observations=np.roll(data.observations, -1, axis=0))
    (cut,) = [one.message for one in diagnose(data) if one.check == "seams"]
    assert cut.endswith("(1 such place)")


def test_one_step_episodes(dataset):
    ends = np.concatenate([[1], dataset.episode_ends])
    dataset.truncations[0] = True
    assert ("warning", "lengths") in found(replace(dataset, episode_ends=ends, next_observations=None))


def simple(rewards, environment="Pendulum-v1"):
    steps = len(rewards)
    ends = np.arange(steps) % 2 == 1
    return Dataset(
        name="simple", observations=np.stack([np.arange(steps), -np.arange(steps)], 1).astype(np.float32),
        actions=np.linspace(-1, 1, steps, dtype=np.float32).reshape(-1, 1), rewards=np.float32(rewards),
        terminations=ends & (np.arange(steps) < 2), truncations=ends & (np.arange(steps) >= 2),
        next_observations=None, episode_ends=np.flatnonzero(ends) + 1,
    )  # fmt: skip


def test_card_by_hand(metadata):
    dataset = replace(simple([-1, -2, -3, -4, -500, -500]), metadata=metadata)
    card = json.loads(json.dumps(dataset_card(dataset), allow_nan=False))
    assert (card["name"], card["environment"], card["steps"], card["episodes"]) == ("simple", "Pendulum-v1", 6, 3)
    assert card["episode_lengths"] == {"mean": 2, "sd": 0, "min": 2, "max": 2}
    mean = (-3 - 7 - 1000) / 3
    assert card["returns"]["mean"] == pytest.approx(mean)
    assert (card["returns"]["min"], card["returns"]["max"]) == (-1000, -3)
    assert card["returns"]["quantiles"]["0.5"] == -7
    assert (sum(card["returns"]["histogram"]["counts"]), len(card["returns"]["histogram"]["edges"])) == (3, 21)
    assert card["observations"] == {"shape": [2], "dtype": "float32", "min": [0, -5], "max": [5, 0]}
    assert card["actions"]["min"] == [-1]
    assert not card["actions"]["discrete"]
    assert (card["terminations"], card["truncations"]) == (1, 2)
    assert card["normalized_score"] == pytest.approx(100 * (mean + 1230.5) / (1230.5 - 136.9))
    assert card["behaviour_policy"]["algorithm"] == "SAC"
    assert "D4RL would call this an expert dataset." in card["behaviour_policy"]["description"]
    assert card["metadata"]["hyperparameters"]["widths"] == [256, 256]
    assert card["fingerprint"] == dataset.fingerprint()
    assert dataset_card(replace(dataset, metadata=replace(metadata, environment="X-v0")))["normalized_score"] is None


def test_card_of_damaged_data_is_still_json():
    card = dataset_card(simple([np.nan, 1, 2, 3]))
    assert card["returns"]["mean"] is None
    assert card["warnings"][0]["severity"] == "error"
    json.dumps(card, allow_nan=False)


def test_fingerprint_is_of_the_content():
    one, other = simple([1, 2, 3, 4]), simple([1, 2, 3, 5])
    assert one.fingerprint() == replace(simple([1, 2, 3, 4]), name="other").fingerprint() != other.fingerprint()


def test_dataset_refuses_columns_that_disagree():
    good = simple([1, 2, 3, 4])
    with pytest.raises(DatasetError, match="'rewards' has 3 rows"):
        replace(good, rewards=good.rewards[:3])
    for ends in ([2, 2, 4], [2], [0, 4], []):
        with pytest.raises(DatasetError, match="without an empty one"):
            replace(good, episode_ends=np.array(ends, np.int64))


def test_what_is_both_termination_and_truncation_is_counted_once(metadata):
    plain = simple([-1, -2, -3, -4, -500, -500])
    both = replace(plain, truncations=np.asarray(plain.truncations) | np.asarray(plain.terminations), metadata=metadata)
    for dataset in (replace(plain, metadata=metadata), both):
        card = dataset_card(dataset)
        assert (card["terminations"], card["truncations"]) == (1, 2)


def _magnitudes(**columns):
    data = make_dataset([40] * 30, **columns)
    return [(one.severity, one.message) for one in diagnose(data) if one.check == "magnitude"]


@pytest.mark.parametrize(("column", "severity", "scale"), [
    ("observations", "error", "mean and deviation"), ("actions", "warning", "their range"),
    ("rewards", "warning", "the largest return-to-go"),
])  # fmt: skip
def test_one_number_beside_which_all_others_are_nothing(column, severity, scale):
    values = getattr(make_dataset([40] * 30), column).copy()
    assert _magnitudes(**{column: values}) == []
    values[333] = 1e9
    ((found, message),) = _magnitudes(**{column: values})
    assert found == severity
    assert message.startswith(f"{column} holds 1e+09 at episode 8, timestep 13")
    assert f"divided by {scale}, nothing would be left" in message


def test_actions_of_a_known_range_may_lie_anywhere_in_it():
    """A thruster that idles with noise, and is used once in a while."""
    actions = 1e-6 * np.random.default_rng(0).normal(size=(1200, 1)).astype(np.float32)
    actions[::300] = 1.0
    data = make_dataset([40] * 30, actions=actions)
    assert "magnitude" in [one.check for one in diagnose(data)], "nobody knows the range"
    spec = replace(environment_spec("Pendulum-v1"), observation_shape=data.observation_shape, name="other")
    assert "magnitude" not in [one.check for one in diagnose(data, spec)]


def test_a_goal_among_rewards_of_nothing_is_no_such_number():
    rewards = np.zeros(1200, np.float32)
    rewards[333] = 100.0
    assert _magnitudes(rewards=rewards) == []


@pytest.mark.parametrize("flagged", [True, False])
def test_where_no_end_is_flagged_a_time_limit_is_asked_for(flagged):
    """To leave next_observations out would join those episodes."""
    data = make_dataset([40] * 10)
    following = np.roll(data.observations, -1, axis=0)
    following[39::40] += 1.0  # what was seen last
    if flagged:
        following = np.roll(following, 3, axis=0)  # another defect: it is shifted
        data = replace(data, next_observations=following)
    else:
        none = np.zeros(400, bool)
        none[-1] = True
        data = replace(data, next_observations=following, truncations=none, episode_ends=np.array([400]))
    (found,) = [one for one in diagnose(data) if one.check == "transitions"]
    assert found.severity == "error"
    assert ("--horizon N" in found.message, "or leave it out" in found.message) == (not flagged, flagged)


@pytest.mark.parametrize(("discrete", "mend"), [(False, "Store choices as integers"), (True, "another environment's")])
def test_actions_of_another_kind_say_how_to_mend_them(discrete, mend):
    steps = 80
    choices = np.random.default_rng(0).integers(2, size=steps)
    data = make_dataset([40, 40], actions=choices if discrete else choices[:, None].astype(np.float32))
    spec = replace(environment_spec("Pendulum-v1" if discrete else "CartPole-v1"), observation_shape=(3,))
    (found,) = [one for one in diagnose(data, spec) if one.severity == "error" and one.check == "actions"]
    assert mend in found.message


def test_a_recording_without_ends_is_one_long_episode():
    for steps, expected in ((9_999, False), (10_000, True)):
        messages = [one.message for one in diagnose(make_dataset([steps]))]
        assert any("timesteps are one episode" in message for message in messages) == expected
    messages = [one.message for one in diagnose(make_dataset([10_000, 5]))]
    assert not any("timesteps are one episode" in message for message in messages)
