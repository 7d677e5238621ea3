"""Bad data: exit code 3 (2 where the command is at fault), one sentence that helps, and nothing written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_helpers import SMALL, contents, rewrite


def _truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_rewards(path):
    rewrite(path, lambda file: file.pop("rewards"))


def _short_actions(path):
    def change(file):
        actions = file["actions"][:-3]
        del file["actions"]
        file["actions"] = actions

    rewrite(path, change)


def _set(key, row, value):
    def change(file):
        file[key][row] = value

    return lambda path: rewrite(path, change)


def _empty(path):
    def change(file):
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            values = file[key][:0]
            del file[key]
            file[key] = values
        del file["next_observations"]
        del file["infos"]

    rewrite(path, change)


UNREADABLE = {
    "missing": (lambda path: path.unlink(), ("no such file",)),
    "truncated": (_truncated, ("cut short",)),
    "empty file": (lambda path: path.write_bytes(b""), ("empty",)),
    "no HDF5": (lambda path: path.write_bytes(b"observations, actions\n" * 9), ("not an HDF5 file",)),
    "key missing": (_without_rewards, ("'rewards' is missing", "expected D4RL's keys")),
    "lengths disagree": (_short_actions, ("'actions' has 1997 rows", "'observations' has 2000")),
    "no timesteps": (_empty, ("0 timesteps",)),
}
UNFIT = {
    "NaN": (_set("rewards", 417, np.nan), ("rewards", "nan", "episode 2, timestep 17")),
    "infinite": (_set("observations", 200, np.inf), ("observations", "inf", "episode 1, timestep 0")),
    "outside the range": (_set("actions", 1999, 2.5), ("action", "2.5", "episode 9, timestep 199", "Pendulum-v1")),
}


@pytest.mark.parametrize("verb", ["inspect", "train"])
@pytest.mark.parametrize("fault", UNREADABLE)
def test_unreadable_data_are_refused(foretell, data, tmp_path, verb, fault):
    damage, words = UNREADABLE[fault]
    damage(data)
    before = contents(tmp_path)
    answer = foretell(
        verb, data, *(("--out", tmp_path / "run") if verb == "train" else ("--card", tmp_path / "c.json"))
    )
    answer.refusal(3, data.name, *words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("fault", UNFIT)
def test_training_refuses_unfit_values_and_says_where(foretell, data, tmp_path, fault):
    damage, words = UNFIT[fault]
    damage(data)
    before = contents(tmp_path)
    foretell("train", data, "--out", tmp_path / "run").refusal(3, data.name, *words)
    assert contents(tmp_path) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", UNFIT)
def test_inspect_shows_the_card_and_fails(foretell, data, fault):
    damage, words = UNFIT[fault]
    damage(data)
    answer = foretell("inspect", data, "--json")
    assert (answer.code, answer.err) == (3, "")
    errors = [found for found in json.loads(answer.out)["warnings"] if found["severity"] == "error"]
    assert all(word in errors[0]["message"] for word in words)


@pytest.mark.parametrize("fault", UNFIT)
def test_inspect_shows_people_the_card_of_any_values(foretell, data, fault):
    UNFIT[fault][0](data)
    answer = foretell("inspect", data)
    assert answer.code == 3
    assert "return per episode" in answer.out
    assert "error: " in answer.out
    assert "Traceback" not in answer.err


def test_a_return_of_which_nothing_is_finite_is_said_to_be_so(foretell, data):
    _set("rewards", slice(None), np.nan)(data)
    answer = foretell("inspect", data)
    assert answer.code == 3
    assert "mean not finite, sd not finite" in answer.out


def test_a_dataset_of_another_environment_is_refused(foretell, data):
    foretell("train", data, "--out", "run", "--environment", "CartPole-v1").refusal(3, "continuous", "CartPole-v1")


def test_where_episodes_end_must_be_known(foretell, data):
    def change(file):
        for key in ("timeouts", "next_observations", "metadata"):
            del file[key]

    rewrite(data, change)
    foretell("inspect", data).refusal(3, "--horizon")
    assert foretell("inspect", data, "--horizon", 200).code == 0


def test_a_name_of_no_known_format_is_a_usage_error(foretell):
    foretell("inspect", "data.csv").refusal(2, "data.csv", ".hdf5", "minari:ID")


def test_an_absent_minari_dataset_says_how_to_fetch_it(foretell, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    foretell("inspect", "minari:pendulum/absent-v0").refusal(3, "minari download pendulum/absent-v0")


def test_no_episodes_are_not_written(tmp_path):
    from foretell.core.errors import DatasetError
    from foretell.datasets.d4rl_writer import write_d4rl
    from foretell.datasets.dataset import DatasetMetadata

    with pytest.raises(DatasetError, match="0 episodes"):
        write_d4rl(tmp_path / "none.hdf5", [], DatasetMetadata())
    assert contents(tmp_path) == {}


def _of_one_reward(path):
    def change(file):
        file["rewards"][:] = 1.0

    rewrite(path, change)


@pytest.mark.parametrize("more", [
    (), ("--seeds", "0..1"), ("--condition", "advantage", "--values.updates", 3, "--values.hidden-sizes", 8),
])  # fmt: skip
def test_what_the_doctor_warns_of_is_said_once_and_trained_on(foretell, data, tmp_path, more):
    train = ("train", data, "--out", "run", *SMALL, *more)
    clean = foretell(*train[:2], "--out", "clean", *SMALL, *more)
    assert "warning" not in clean.err
    _of_one_reward(data)
    answer = foretell(*train)
    said = [line for line in answer.err.splitlines() if "warning" in line]
    assert any("rewards never change: all are 1" in line and str(data) in line for line in said), answer.err
    assert len(said) == len(set(said))
    found = json.loads(foretell("inspect", data, "--json").out)["warnings"]
    assert len(said) == len(found)
    assert answer.code == 0
